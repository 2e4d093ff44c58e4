//! Other clients of the same pool: each with settings and statements of its own, which it checks
//! all the time. What they leave on a server connection would change a program's transcript, and
//! what the program leaves there is noticed here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_postgres::NoTls;

const MEMBERS: usize = 3;

pub(crate) struct Crowd {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Crowd {
    pub(crate) fn gather(dsn: &str) -> Crowd {
        let over = Arc::new(AtomicBool::new(false));
        let (dsn, seen) = (dsn.to_owned(), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let members: Vec<_> = (0..MEMBERS)
                    .map(|number| tokio::spawn(member(dsn.clone(), number, Arc::clone(&seen))))
                    .collect();
                let mut rounds = 0;
                for member in members {
                    rounds += member.await.unwrap();
                }
                rounds
            })
        });
        Crowd { over, thread }
    }

    /// Ends it; panics if one of its members has seen what it should not have.
    pub(crate) fn disperse(self) {
        self.over.store(true, Ordering::Relaxed);
        let rounds = self.thread.join().expect("every client of the crowd saw its own settings and rows");
        assert!(rounds > 0, "the crowd did not come to do anything");
    }
}

async fn member(dsn: String, number: usize, over: Arc<AtomicBool>) -> u64 {
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
    tokio::spawn(connection);
    let zone = ["Asia/Tokyo", "America/Caracas", "Africa/Cairo"][number];
    let style = ["German, DMY", "SQL, DMY", "Postgres, MDY"][number];
    client
        .batch_execute(&format!(
            "SET TimeZone = '{zone}'; SET DateStyle = '{style}'; SET search_path = pg_catalog, public; \
             SET application_name = 'crowd {number}'; SET statement_timeout = '{}s'; SET bytea_output = 'escape'",
            60 + number
        ))
        .await
        .unwrap();
    let text = "SELECT id, current_setting('TimeZone'), current_setting('DateStyle'), \
                current_setting('application_name'), current_setting('search_path') FROM users WHERE id = $1";
    let statement = client.prepare(text).await.unwrap();
    let mut rounds = 0;
    // One round at least, however quick the program is.
    while rounds == 0 || !over.load(Ordering::Relaxed) {
        for user in [3, 7, 12, 100 + i64::try_from(number).unwrap()] {
            let row = client.query_one(&statement, &[&user]).await.unwrap();
            let found = (row.get::<_, i64>(0), row.get::<_, &str>(1), row.get::<_, &str>(2));
            assert_eq!(found, (user, zone, style));
            let found = (row.get::<_, &str>(3), row.get::<_, &str>(4));
            assert_eq!(found, (format!("crowd {number}").as_str(), "pg_catalog, public"));
        }
        rounds += 1;
        // The others are to be in its way, not to be starved.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rounds
}
