//! sqlx: a pool that pings, statements prepared by default, types it looks up by itself.

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use sqlx::{Acquire, ConnectOptions, Connection, Executor, Row};
use std::str::FromStr;

type Done = Result<(), Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let arguments: Vec<String> = std::env::args().collect();
    let (dsn, scope) = (arguments[1].as_str(), arguments[2].as_str());
    let pool = PgPoolOptions::new().max_connections(8).connect(dsn).await?;
    if scope == "keyed" {
        statements(&pool).await?;
        transactions(&pool).await?;
        together(&pool).await?;
        without_cache(dsn).await?;
    } else {
        types(&pool).await?;
        copies(&pool).await?;
        listening(&pool).await?;
        settings(dsn).await?;
    }
    pool.close().await;
    Ok(())
}

fn refused<T>(label: &str, result: Result<T, sqlx::Error>) {
    match result {
        Ok(_) => println!("{label}: no error"),
        Err(sqlx::Error::Database(error)) => println!("{label}: {:?} {error} {:?}", error.code(), error.constraint()),
        Err(error) => println!("{label}: {error}"),
    }
}

async fn statements(pool: &PgPool) -> Done {
    for user in 1..=40_i64 {
        let row = sqlx::query("SELECT id, email, is_active FROM users WHERE id = $1").bind(user).fetch_one(pool).await?;
        let found: (i64, String, bool) = (row.get(0), row.get(1), row.get(2));
        println!("user: {found:?}");
    }
    let jobs: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, name FROM jobs WHERE user_id = $1 ORDER BY id").bind(7_i64).fetch_all(pool).await?;
    println!("jobs: {jobs:?}");
    let one: Option<i64> = sqlx::query_scalar("SELECT id FROM users WHERE id = $1").bind(9999_i64).fetch_optional(pool).await?;
    println!("none: {one:?}");
    refused("division", sqlx::query("SELECT 1/0 FROM users WHERE id = $1").bind(3_i64).execute(pool).await);
    refused("syntax", sqlx::query("SELEC 1").execute(pool).await);
    let duplicate = "INSERT INTO users (id, email, name) VALUES ($1, 'a', 'b')";
    refused("duplicate", sqlx::query(duplicate).bind(3_i64).execute(pool).await);
    let several = sqlx::raw_sql("SELECT 1 FROM users WHERE id = 3; SELECT 2 FROM jobs WHERE user_id = 3");
    println!("several: {}", several.fetch_all(pool).await?.len());
    Ok(())
}

async fn transactions(pool: &PgPool) -> Done {
    let name = "SELECT name FROM users WHERE id = $1";
    let mut transaction = pool.begin().await?;
    sqlx::query("UPDATE users SET name = 'outer' WHERE id = $1").bind(7_i64).execute(&mut *transaction).await?;
    let mut nested = transaction.begin().await?;
    sqlx::query("UPDATE users SET name = 'inner' WHERE id = $1").bind(7_i64).execute(&mut *nested).await?;
    nested.rollback().await?;
    let found: String = sqlx::query_scalar(name).bind(7_i64).fetch_one(&mut *transaction).await?;
    println!("outer: {found}");
    // Dropped: sqlx rolls back when the connection is used next.
    drop(transaction);
    let found: String = sqlx::query_scalar(name).bind(7_i64).fetch_one(pool).await?;
    println!("after: {found}");
    let inserted: Vec<String> =
        sqlx::query_scalar("INSERT INTO notifications (user_id, message) VALUES ($1, 'a'), ($1, 'b') RETURNING message")
            .bind(7_i64)
            .fetch_all(pool)
            .await?;
    println!("inserted: {inserted:?}");
    let deleted = sqlx::query("DELETE FROM notifications WHERE user_id = $1 AND message IN ('a', 'b')");
    println!("deleted: {}", deleted.bind(7_i64).execute(pool).await?.rows_affected());
    Ok(())
}

async fn together(pool: &PgPool) -> Done {
    let mut tasks = tokio::task::JoinSet::new();
    for user in 1..=60_i64 {
        let pool = pool.clone();
        tasks.spawn(async move {
            let select = sqlx::query_scalar::<_, i64>("SELECT id FROM users WHERE id = $1");
            Ok::<_, sqlx::Error>(select.bind(user).fetch_one(&pool).await? == user)
        });
    }
    let mut right = 0;
    while let Some(one) = tasks.join_next().await {
        right += usize::from(one??);
    }
    println!("together: {right}");
    Ok(())
}

async fn without_cache(dsn: &str) -> Done {
    let options = PgConnectOptions::from_str(dsn)?.statement_cache_capacity(2);
    let mut connection = options.connect().await?;
    for round in 0..5 {
        for user in 1..=5_i64 {
            let text = format!("SELECT id + {round} * 0 FROM users WHERE id = $1");
            let found: i64 = sqlx::query_scalar(&text).bind(user).fetch_one(&mut connection).await?;
            assert_eq!(found, user);
        }
    }
    let once = sqlx::query("SELECT email FROM users WHERE id = $1").persistent(false).bind(3_i64);
    println!("once: {}", once.fetch_one(&mut connection).await?.get::<String, _>(0));
    connection.ping().await?;
    println!("cached: {}", connection.cached_statements_size());
    connection.close().await?;
    Ok(())
}

async fn types(pool: &PgPool) -> Done {
    pool.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE felt (m mood, tags text[])").await?;
    // An own type makes sqlx ask the catalogue between Parse and Bind.
    #[derive(Debug)]
    struct Mood(String);
    impl sqlx::Type<sqlx::Postgres> for Mood {
        fn type_info() -> sqlx::postgres::PgTypeInfo {
            sqlx::postgres::PgTypeInfo::with_name("mood")
        }
    }
    impl sqlx::Encode<'_, sqlx::Postgres> for Mood {
        fn encode_by_ref(
            &self,
            buffer: &mut sqlx::postgres::PgArgumentBuffer,
        ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
            <&str as sqlx::Encode<sqlx::Postgres>>::encode(self.0.as_str(), buffer)
        }
    }
    let insert = sqlx::query("INSERT INTO felt VALUES ($1, $2)");
    insert.bind(Mood("ok".into())).bind(vec!["a".to_owned(), "b".to_owned()]).execute(pool).await?;
    let row = sqlx::query("SELECT m::text, tags FROM felt WHERE m = $1").bind(Mood("ok".into())).fetch_one(pool).await?;
    println!("types: {} {:?}", row.get::<String, _>(0), row.get::<Vec<String>, _>(1));
    pool.execute("DROP TABLE felt; DROP TYPE mood").await?;
    Ok(())
}

async fn copies(pool: &PgPool) -> Done {
    pool.execute("CREATE TABLE copied (id int, body text)").await?;
    let mut connection = pool.acquire().await?;
    let mut copy = connection.copy_in_raw("COPY copied FROM STDIN").await?;
    for number in 0..2000 {
        copy.send(format!("{number}\t{}\n", "x".repeat(number % 200)).into_bytes()).await?;
    }
    println!("in: {}", copy.finish().await?);
    let copy = connection.copy_in_raw("COPY copied FROM STDIN").await?;
    refused("aborted", copy.abort("no more").await);
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM copied").fetch_one(&mut *connection).await?;
    println!("count: {count}");
    connection.execute("DROP TABLE copied").await?;
    Ok(())
}

async fn listening(pool: &PgPool) -> Done {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all(["matrix", "other"]).await?;
    sqlx::query("SELECT pg_notify('matrix', $1)").bind("one").execute(pool).await?;
    pool.execute("NOTIFY other, 'two'").await?;
    for _ in 0..2 {
        let heard = listener.recv().await?;
        println!("heard: {} {}", heard.channel(), heard.payload());
    }
    Ok(())
}

async fn settings(dsn: &str) -> Done {
    let options = PgConnectOptions::from_str(dsn)?.application_name("matrix").options([("geqo", "off")]);
    let mut connection: PgConnection = options.connect().await?;
    for setting in ["application_name", "geqo", "extra_float_digits", "TimeZone"] {
        let shown: String = sqlx::query_scalar(&format!("SHOW {setting}")).fetch_one(&mut connection).await?;
        println!("{setting}: {shown}");
    }
    connection.execute("CREATE TEMPORARY TABLE mine AS SELECT 5 AS n").await?;
    let found: i32 = sqlx::query_scalar("SELECT n FROM mine").fetch_one(&mut connection).await?;
    println!("temporary: {found}");
    connection.close().await?;
    Ok(())
}
