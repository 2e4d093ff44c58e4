//! Random statements on pgring and on the oracle.

use super::generator::Generator;
use super::oracle::{Answer, Pair, STAGE, ask};
use tokio_postgres::Client;

const STATEMENTS: usize = 2500;

/// What all tables hold of the users a statement may have touched, as far as one shard knows.
async fn rows_of(pair: &Pair, key: i64) -> (Answer, Answer) {
    let text = format!(
        "SELECT 'u', id, md5(w::text) FROM users w WHERE id = {key} \
         UNION ALL SELECT 'j', id, md5(w::text) FROM jobs w WHERE user_id = {key} \
         UNION ALL SELECT 'e', id, md5(w::text) FROM job_executions w WHERE user_id = {key} \
         UNION ALL SELECT 'n', id, md5((id, user_id, message, is_read)::text) FROM notifications w WHERE user_id = {key} \
         UNION ALL SELECT 'a', id, md5((id, user_id, entity_type, action)::text) FROM audit_logs w WHERE user_id = {key} \
         ORDER BY 1, 2, 3"
    );
    (ask(&pair.pgring, &text).await, ask(&pair.oracle, &text).await)
}

#[derive(Default)]
struct Tally {
    answered: usize,
    refused: usize,
    failed: usize,
    late: usize,
    writes: usize,
    wrong: Vec<String>,
}

#[tokio::test]
async fn random_statements_are_answered_as_one_postgresql_does_or_refused() {
    // To look for more: PGRING_TEST_SEED=17 PGRING_TEST_STATEMENTS=100000
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
    };
    let seed = number("PGRING_TEST_SEED", 1);
    let count = number("PGRING_TEST_STATEMENTS", STATEMENTS as u64);
    let pair = STAGE.pair_of_several().await;
    for client in [&pair.pgring, &pair.oracle] {
        // A cartesian product proves nothing.
        client.batch_execute("SET statement_timeout = '500ms'; ").await.unwrap();
    }
    let mut generator = Generator::new(seed);
    let mut tally = Tally::default();
    for _ in 0..count {
        let text = generator.statement();
        compare(&pair, &text, generator.theme(), &mut tally).await;
    }
    let Tally { answered, refused, failed, late, writes, wrong } = tally;
    println!(
        "{answered} answered ({writes} of them writes, {failed} errors), {refused} refused, {late} took too long"
    );
    assert!(wrong.is_empty(), "seed {seed}: {} wrong answers:\n{}", wrong.len(), wrong.join("\n\n"));
    // Otherwise nothing has been shown.
    assert!(answered * 5 > usize::try_from(count).unwrap(), "most statements were refused");
    assert!(failed * 10 < answered, "most statements were no SQL");
}

async fn compare(pair: &Pair, text: &str, theme: [i64; 2], tally: &mut Tally) {
    for_certain(&pair.pgring, "BEGIN").await;
    let pgring = ask(&pair.pgring, text).await;
    if pgring.is_refusal() {
        tally.refused += 1;
        for_certain(&pair.pgring, "ROLLBACK").await;
        return;
    }
    for_certain(&pair.oracle, "BEGIN").await;
    let oracle = ask(&pair.oracle, text).await;
    let late = [&pgring, &oracle].iter().any(|answer| answer.code() == Some("57014"));
    let sorted = text.contains("ORDER BY 1, 2, 3 LIMIT 5");
    if late {
        tally.late += 1;
    } else if !pgring.same(&oracle, sorted) {
        let [pgring, oracle] = [pgring, oracle].map(|answer| short(&answer));
        tally.wrong.push(format!("{text}\n  pgring {pgring}\n  oracle {oracle}"));
    } else {
        tally.answered += 1;
        if let Answer::Error { code, message, .. } = &oracle {
            tally.failed += 1;
            if std::env::var_os("PGRING_TEST_ERRORS").is_some() {
                println!("{code} {message}: {text}");
            }
        } else if ["UPDATE ", "DELETE ", "INSERT "].iter().any(|verb| text.contains(verb)) {
            tally.writes += 1;
            let (pgring, oracle) = rows_of(pair, theme[0]).await;
            // The transaction is elsewhere if the statement went elsewhere: then there is
            // nothing to see of this user.
            let late = [&pgring, &oracle].iter().any(|answer| answer.code() == Some("57014"));
            if !late && !pgring.is_refusal() && !pgring.same(&oracle, true) {
                let [pgring, oracle] = [pgring, oracle].map(|answer| short(&answer));
                tally.wrong.push(format!("{text}\n  leaves pgring {pgring}\n  leaves oracle {oracle}"));
            }
        }
    }
    for_certain(&pair.pgring, "ROLLBACK").await;
    for_certain(&pair.oracle, "ROLLBACK").await;
}

/// Where everything is slow even this may take too long.
async fn for_certain(client: &Client, text: &str) {
    while ask(client, text).await.code() == Some("57014") {}
}

fn short(answer: &Answer) -> String {
    let mut text = format!("{answer:?}");
    let end = text.char_indices().nth(600).map_or(text.len(), |(at, _)| at);
    text.truncate(end);
    text
}
