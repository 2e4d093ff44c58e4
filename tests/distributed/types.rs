//! Parameters whose type the server infers, and users' types, whose OIDs each server has of its own.

use std::error::Error;
use std::sync::LazyLock;

use pgring::demo::cluster::Cluster;
use pgring::demo::sample::APP;
use tokio_postgres::NoTls;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::support::raw::{Raw, bind, execute, parse, run, sync};
use crate::support::{self, Config, Proxy};

struct Stage {
    proxy: Proxy,
    name: String,
    servers: Vec<&'static Cluster>,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let servers = support::servers(3);
    let name = support::database(&servers, "");
    for (shard, server) in servers.iter().enumerate() {
        // What has an OID on one shard has another on the next, or is another type there.
        let mut types = TYPES.to_vec();
        types.rotate_left(shard);
        let extra: String = (0..shard).map(|n| format!("CREATE TABLE extra{n} ();")).collect();
        server.psql(APP, &name, &(extra + &types.concat() + TABLES)).unwrap();
    }
    Stage { proxy: Proxy::start(Config::new().database(&name, &servers)), name, servers }
});

const TYPES: [&str; 3] = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');",
    "CREATE TYPE hue AS ENUM ('red', 'ok', 'blue');",
    "CREATE DOMAIN percent AS integer CHECK (VALUE BETWEEN 0 AND 100); CREATE TYPE pair AS (a int, b text);",
];
const TABLES: &str = "
    CREATE TABLE scores (user_id bigint, f float8);
    CREATE TABLE sent (user_id bigint, f float8);
    CREATE TABLE marked (user_id bigint, e mood, h hue, p percent, pr pair);";

impl Stage {
    fn session(&self) -> Raw {
        Raw::login(&self.proxy.address(), APP, &self.name)
    }

    async fn client(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.proxy.dsn(APP, &self.name), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// The driver declares no types, and sends values in binary form of those that a server infers.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_read_as_the_type_that_a_server_infers() {
    let mut client = STAGE.client().await;
    let keys = [1i64, 2, 3, 4, 5, 6, 7, 60];
    for key in keys {
        #[allow(clippy::cast_precision_loss, reason = "small")]
        let float = key as f64;
        let floats: [&(dyn ToSql + Sync); 1] = [&float];
        let (insert, refused) = (
            "INSERT INTO scores (user_id, f) VALUES ($1, $1::bigint)",
            "INSERT INTO scores (f, user_id) VALUES ($1::float8, $1)",
        );
        assert_eq!(client.execute(insert, &[&key]).await.unwrap(), 1);
        let error = client.execute(refused, &floats).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "0A000", "{error:?}");
        let found =
            client.query("SELECT f FROM scores WHERE f >= $1 AND user_id = $1", &floats).await.unwrap();
        assert_eq!(found.len(), 1, "{key}");
        // Here it is the key's.
        let update = "UPDATE scores SET f = $1 WHERE user_id = $1";
        assert_eq!(client.execute(update, &[&key]).await.unwrap(), 1, "{key}");
        let again = "SELECT f FROM scores WHERE user_id = $1 AND f = $1";
        let found = client.query(again, &[&key]).await.unwrap();
        assert_eq!(found.len(), 1, "{key}");
    }
    // A float that is no key's value is nobody's, and is no error.
    let found =
        client.query("SELECT f FROM scores WHERE f >= $1 AND user_id = $1", &[&4.5f64]).await.unwrap();
    assert!(found.is_empty());
    let transaction = client.transaction().await.unwrap();
    for key in keys {
        let found = transaction.query("SELECT f FROM scores WHERE user_id = $1", &[&key]).await.unwrap();
        assert_eq!(found.len(), 1);
        let update = "UPDATE scores SET f = $1 + 1 WHERE user_id = $1";
        assert_eq!(transaction.execute(update, &[&key]).await.unwrap(), 1, "{key}");
    }
    transaction.commit().await.unwrap();
}

#[test]
fn types_are_asked_for_in_the_middle_of_a_pipeline() {
    let mut session = STAGE.session();
    let insert = "INSERT INTO sent (f, user_id) VALUES ($1::bigint / 2.0, $1)";
    let select = "SELECT f FROM sent WHERE f * 2 = $1 AND user_id = $1";
    for key in ["1", "2", "3", "4"] {
        session.send(&[run(insert, &[key]), sync()].concat());
        let answer = session.until(b'Z', 1);
        assert!(answer.iter().any(|frame| frame.body.starts_with(b"INSERT 0 1")), "{key}: {answer:?}");
        session.send(&[run(select, &[key]), sync()].concat());
        let answer = session.until(b'Z', 1);
        assert!(answer.iter().any(|frame| frame.body.starts_with(b"SELECT 1")), "{key}: {answer:?}");
    }
    // Several between two Syncs, by name.
    let both = [
        parse("s", select),
        bind("", "s", &["3"]),
        execute("", 0),
        bind("", "s", &["3"]),
        execute("", 0),
        sync(),
    ]
    .concat();
    session.send(&both);
    let answer = session.until(b'Z', 1);
    assert_eq!(answer.iter().filter(|frame| frame.body.starts_with(b"SELECT 1")).count(), 2, "{answer:?}");
    // What is wrong with it is said once, and the next is answered.
    let wrong = "SELECT nothing FROM sent WHERE f = $1 AND user_id = $1";
    session.send(&[run(wrong, &["3"]), sync()].concat());
    let answer = session.until(b'Z', 1);
    let codes: Vec<String> =
        answer.iter().filter(|frame| frame.tag == b'E').map(crate::support::raw::Frame::code).collect();
    assert_eq!(codes, ["42703"], "{answer:?}");
    assert_eq!(session.value("SELECT 1"), "1");
}

/// A label of an enumeration.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Label(String);

impl ToSql for Label {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(kind.name(), "mood" | "hue" | "tint")
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Label {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Label, Box<dyn Error + Sync + Send>> {
        Ok(Label(String::from_utf8(raw.to_vec())?))
    }

    fn accepts(kind: &Type) -> bool {
        <Label as ToSql>::accepts(kind)
    }
}

fn label(text: &str) -> Label {
    Label(text.to_owned())
}

/// The driver declares the OIDs it was told for parameters, and looks types up by those of columns.
#[tokio::test(flavor = "multi_thread")]
async fn users_types_are_the_home_shards_to_clients() {
    let home: u32 = STAGE.servers[0]
        .psql(APP, &STAGE.name, "SELECT 'mood'::regtype::oid")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let there = |shard: usize| {
        let sql = format!("SELECT {home}::regtype::text");
        STAGE.servers[shard].psql(APP, &STAGE.name, &sql).unwrap().trim().to_owned()
    };
    assert!((1..3).all(|shard| there(shard) != "mood"), "the stage is none");
    let mut client = STAGE.client().await;
    let labels = ["sad", "ok", "happy"].map(label);
    for key in 1..=18i64 {
        let mood = &labels[usize::try_from(key).unwrap() % 3];
        let insert = "INSERT INTO marked (user_id, e, h, p) VALUES ($1, $2, $3, $4::int)";
        client.execute(insert, &[&key, mood, &label("ok"), &7i32]).await.unwrap();
        let rows = client.query("SELECT e, h FROM marked WHERE user_id = $1", &[&key]).await.unwrap();
        assert_eq!(rows[0].columns()[0].type_().oid(), home, "{key}");
        assert_eq!((rows[0].get::<_, Label>(0), rows[0].get::<_, Label>(1)), (mood.clone(), label("ok")));
    }
    // Of several shards: the types that one has inferred are others elsewhere.
    let sad: &(dyn ToSql + Sync) = &labels[0];
    let count = client.query_one("SELECT count(*) FROM marked WHERE e = $1", &[sad]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 6);
    let rows = client
        .query(
            "SELECT user_id, e, $2::int::percent, $3::text::pair::text FROM marked WHERE e = $1 ORDER BY 1",
            &[sad, &50i32, &"(1,x)"],
        )
        .await
        .unwrap();
    let found: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, [3, 6, 9, 12, 15, 18]);
    assert_eq!(rows[0].columns()[1].type_().oid(), home);
    let update = "UPDATE marked SET e = $1, h = $2 WHERE e = $3";
    let changed = client.execute(update, &[&labels[2], &label("red"), sad]).await.unwrap();
    assert_eq!(changed, 6);
    let max = client.query_one("SELECT max(e), max(h) FROM marked", &[]).await.unwrap();
    assert_eq!((max.get::<_, Label>(0), max.get::<_, Label>(1)), (label("happy"), label("ok")));
    // In a transaction that is on another shard, by a driver that has not met the type yet.
    for key in 1..=6i64 {
        let mut fresh = STAGE.client().await;
        let transaction = fresh.transaction().await.unwrap();
        transaction.execute("UPDATE marked SET p = 8 WHERE user_id = $1", &[&key]).await.unwrap();
        let select = "SELECT h FROM marked WHERE user_id = $1 AND h <> $2";
        let rows = transaction.query(select, &[&key, &label("blue")]).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].columns()[0].type_().name(), "hue");
        transaction.commit().await.unwrap();
    }
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT e FROM marked WHERE e >= $1", &[&labels[1]]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 5).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_made_a_moment_ago_is_known() {
    let client = STAGE.client().await;
    client.batch_execute("CREATE TYPE tint AS ENUM ('light', 'dark')").await.unwrap();
    client.batch_execute("CREATE TABLE tinted (user_id bigint, t tint)").await.unwrap();
    for key in 1..=6i64 {
        let insert = "INSERT INTO tinted VALUES ($1, $2)";
        client.execute(insert, &[&key, &label("dark")]).await.unwrap();
    }
    let found = client.query("SELECT t FROM tinted WHERE t = $1", &[&label("dark")]).await.unwrap();
    assert_eq!(found.len(), 6);
    assert!(found.iter().all(|row| row.get::<_, Label>(0) == label("dark")));
}

/// The OID in the description of a result's only column, whose name is one letter.
fn described(frames: &[crate::support::raw::Frame]) -> u32 {
    let body = &frames.iter().find(|frame| frame.tag == b'T').unwrap().body;
    u32::from_be_bytes(body[10..14].try_into().unwrap())
}

#[test]
fn a_simple_query_is_described_alike_on_every_shard() {
    let mut session = STAGE.session();
    let mut seen: Vec<u32> = Vec::new();
    for key in 101..=112 {
        session.query(&format!("INSERT INTO marked (user_id, e, pr) VALUES ({key}, 'ok', '(1,a)')"));
        for column in ["e", "h", "p"] {
            seen.push(described(
                &session.query(&format!("SELECT {column} FROM marked WHERE user_id = {key}")),
            ));
        }
    }
    for column in 0..3 {
        let mut of_column: Vec<u32> = seen.iter().skip(column).step_by(3).copied().collect();
        of_column.dedup();
        assert_eq!(of_column.len(), 1, "{column}: {seen:?}");
    }
    let all = session.query("SELECT e FROM marked WHERE user_id > 100 ORDER BY user_id");
    assert_eq!(described(&all), seen[0]);
}
