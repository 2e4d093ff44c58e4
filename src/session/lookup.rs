//! Users whom the file does not name: what the database says of them, remembered briefly.
//!
//! One question a user is under way at a time, and whoever asks meanwhile waits for its answer.
//! That somebody does not exist is an answer too; that the shard could not be asked is not one,
//! and is forgotten at once. The memory is bounded, whatever names clients make up: what is old
//! goes first, then those who do not exist, then all.
//!
//! Asking is the business of whoever implements [`AskDatabase`], and goes on when the client
//! that caused it has left.

use super::directory::{Database, User};
use crate::config;
use crate::error::{ClientError, SqlState};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::watch;

/// A role of the database's.
#[derive(Debug)]
pub struct Role {
    /// Whom its sessions are; `None` for a role that has no password a client could prove.
    pub user: Option<Arc<User>>,
    /// When its password ends (`VALID UNTIL`).
    pub expires: Option<Instant>,
    /// `LOGIN`
    pub can_login: bool,
}

/// What a shard said; `None`: there is no such role.
pub type Answer = Result<Option<Arc<Role>>, LookupError>;

/// Why a user could not be looked up. The log's; clients are told [`LookupError::client_error`].
#[derive(Clone, Debug, Error)]
pub enum LookupError {
    /// The first shard cannot be asked now.
    #[error("shard {shard}: {reason}")]
    Shard {
        /// Its name.
        shard: String,
        /// The log's words.
        reason: String,
    },
    /// The shard answers, and not with a user.
    #[error("shard {shard} cannot look users up: {reason}")]
    Refused {
        /// Its name.
        shard: String,
        /// The log's words.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Whoever asked is gone: pgring stops.
    #[error("the look-up was given up")]
    GivenUp,
}

impl LookupError {
    /// What a client is told.
    pub fn client_error(&self) -> ClientError {
        match self {
            LookupError::Shard { shard, .. } => ClientError::fatal(
                SqlState::UNAVAILABLE,
                format!("users cannot be looked up: shard \"{shard}\" cannot be asked"),
            )
            .with_hint("Try again once the shard is back. Users of pgring's own file can log in meanwhile."),
            LookupError::Refused { shard, .. } => ClientError::fatal(
                SqlState::UNAVAILABLE,
                format!("users cannot be looked up on shard \"{shard}\""),
            )
            .with_hint("pgring's control role may lack the right to it: the log has the reason."),
            LookupError::Timeout(_) | LookupError::GivenUp => {
                ClientError::fatal(SqlState::UNAVAILABLE, "users cannot be looked up in time")
                    .with_hint("Try again later.")
            }
        }
    }
}

/// Asks a database's first shard.
pub trait AskDatabase: Send + Sync {
    /// Finds out about `name` in the background, and sends the answer.
    fn ask(&self, database: Arc<Database>, name: String, answer: watch::Sender<Option<Answer>>);
}

/// See the module.
pub struct Lookup {
    asks: Box<dyn AskDatabase>,
    cache: Duration,
    most: usize,
    /// Where users of the console are looked up.
    pub console: String,
    known: Mutex<HashMap<Key, Entry>>,
}

/// How often failed logins of one user have the database asked again.
const DOUBTS_APART: Duration = Duration::from_secs(1);

/// Database and user.
type Key = (String, String);

#[derive(Clone)]
struct Entry {
    asked: Instant,
    answer: watch::Receiver<Option<Answer>>,
    /// A client has failed to prove itself against it: whoever comes next asks again.
    in_doubt: bool,
    /// When that last was so of this user.
    doubted: Option<Instant>,
}

impl Entry {
    fn is_negative(&self) -> bool {
        matches!(&*self.answer.borrow(), Some(Ok(None)))
    }

    fn is_under_way(&self) -> bool {
        self.answer.borrow().is_none() && self.answer.has_changed().is_ok()
    }

    fn is_good(&self, now: Instant, cache: Duration) -> bool {
        !self.in_doubt
            && match &*self.answer.borrow() {
                None => self.answer.has_changed().is_ok(),
                Some(Ok(_)) => now.duration_since(self.asked) < cache,
                Some(Err(_)) => false,
            }
    }
}

/// A role, and whether it may be out of date.
pub struct Found {
    /// What was found.
    pub role: Option<Arc<Role>>,
    remembered: Option<(Key, Instant)>,
}

impl Lookup {
    /// With nothing remembered.
    pub fn new(asks: Box<dyn AskDatabase>, settings: &config::Auth, console: String) -> Lookup {
        Lookup { asks, cache: settings.cache, most: settings.cache_size, console, known: Mutex::default() }
    }

    /// What a database says of a user. Cancel safe.
    ///
    /// # Errors
    /// The shard could not be asked within `patience`.
    pub async fn find(
        &self,
        database: &Arc<Database>,
        name: &str,
        patience: Duration,
    ) -> Result<Found, LookupError> {
        let key = (database.name.clone(), name.to_owned());
        let (mut entry, remembered) = self.entry(&key, database, Instant::now());
        let answered = tokio::time::timeout(patience, entry.answer.wait_for(Option::is_some));
        let answer = match answered.await {
            Err(_) => return Err(LookupError::Timeout(patience)),
            Ok(Err(_)) => return Err(LookupError::GivenUp),
            Ok(Ok(answer)) => answer.clone().unwrap_or(Err(LookupError::GivenUp)),
        };
        Ok(Found { role: answer?, remembered: remembered.then_some((key, entry.asked)) })
    }

    /// A client failed to prove itself against what was remembered: the password may have been
    /// changed, or the role made, so the next one is told what the database says now. Both alike, and
    /// not too often: how long a login takes must not tell who exists.
    pub fn doubt(&self, found: &Found) {
        self.doubt_at(found, Instant::now());
    }

    fn doubt_at(&self, found: &Found, now: Instant) {
        let Some((key, asked)) = &found.remembered else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get_mut(key).filter(|entry| entry.asked == *asked)
            && entry.doubted.is_none_or(|last| now.duration_since(last) >= DOUBTS_APART)
        {
            entry.in_doubt = true;
            entry.doubted = Some(now);
        }
    }

    /// The entry to wait for, and whether it was there already with its answer.
    fn entry(&self, key: &Key, database: &Arc<Database>, now: Instant) -> (Entry, bool) {
        let (sender, entry) = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = known.get(key).filter(|entry| entry.is_good(now, self.cache)) {
                return (entry.clone(), !entry.is_under_way());
            }
            let doubted = known.get(key).and_then(|entry| entry.doubted);
            if known.len() >= self.most {
                make_room(&mut known, self.most / 2, now, self.cache);
            }
            let (sender, answer) = watch::channel(None);
            let entry = Entry { asked: now, answer, in_doubt: false, doubted };
            known.insert(key.clone(), entry.clone());
            (sender, entry)
        };
        self.asks.ask(Arc::clone(database), key.1.clone(), sender);
        (entry, false)
    }
}

/// Leaves at most `room` answers, so that a flood of names does not look through all of them for
/// each. What is under way stays: clients wait for it, and are limited themselves.
fn make_room(known: &mut HashMap<Key, Entry>, room: usize, now: Instant, cache: Duration) {
    known.retain(|_, entry| entry.is_good(now, cache));
    if known.len() > room {
        known.retain(|_, entry| !entry.is_negative());
    }
    if known.len() > room {
        known.retain(|_, entry| entry.is_under_way());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{ShardId, Topology};
    use crate::session::two_phase::TwoPhase;
    use crate::telemetry::Metrics;
    use tokio::sync::Notify;

    /// Keeps the questions until the test answers them.
    #[derive(Default, Clone)]
    struct Asked(Arc<Mutex<Vec<Question>>>);

    type Question = (String, watch::Sender<Option<Answer>>);

    impl AskDatabase for Asked {
        fn ask(&self, _: Arc<Database>, name: String, answer: watch::Sender<Option<Answer>>) {
            self.0.lock().unwrap().push((name, answer));
        }
    }

    impl Asked {
        fn count(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        fn answer(&self, at: usize, answer: Answer) {
            self.0.lock().unwrap()[at].1.send_replace(Some(answer));
        }
    }

    fn database() -> Arc<Database> {
        Arc::new(Database {
            name: "d".to_owned(),
            topology: Arc::new(Topology::new(&[("s".to_owned(), 1)], 1, ShardId(0))),
            shards: Vec::new(),
            shard_names: Vec::new(),
            metrics: Vec::new(),
            counters: Metrics::new().database("d"),
            types: Vec::new(),
            key: String::new(),
            waiting: Arc::default(),
            schema: Default::default(),
            proof: Default::default(),
            reads: None,
            has_readers: false,
            schema_stale: Notify::new(),
            schema_wanted: Default::default(),
            schema_reads: watch::channel(0).0,
            schema_changes: Default::default(),
            schema_overdue: Default::default(),
            two_phase: TwoPhase::new("test", 0, prometheus::IntCounter::new("lost", "Lost").unwrap()).0,
            greetings: Default::default(),
        })
    }

    fn lookup(cache: Duration, most: usize) -> (Arc<Lookup>, Asked) {
        let asked = Asked::default();
        let settings = config::Auth { source: None, cache, cache_size: most };
        (Arc::new(Lookup::new(Box::new(asked.clone()), &settings, "d".to_owned())), asked)
    }

    const LONG: Duration = Duration::from_secs(60);

    fn no_role() -> Answer {
        Ok(None)
    }

    fn role() -> Answer {
        Ok(Some(Arc::new(Role { user: None, expires: None, can_login: true })))
    }

    async fn find(lookup: &Lookup, name: &str) -> Result<Found, LookupError> {
        lookup.find(&database(), name, LONG).await
    }

    #[tokio::test]
    async fn several_at_once_are_one_question() {
        let (lookup, asked) = lookup(LONG, 10);
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let lookup = Arc::clone(&lookup);
                tokio::spawn(async move { find(&lookup, "bob").await.unwrap().role.is_some() })
            })
            .collect();
        while asked.count() == 0 {
            tokio::task::yield_now().await;
        }
        asked.answer(0, role());
        for waiting in waiting {
            assert!(waiting.await.unwrap());
        }
        assert_eq!(asked.count(), 1);
        assert!(find(&lookup, "bob").await.unwrap().remembered.is_some());
        assert_eq!(asked.count(), 1, "remembered");
    }

    /// Looks up and answers, if it is asked.
    async fn looked_up(lookup: &Arc<Lookup>, asked: &Asked, name: &str, answer: Answer) -> bool {
        let before = asked.count();
        let task = tokio::spawn({
            let (lookup, name) = (Arc::clone(lookup), name.to_owned());
            async move { find(&lookup, &name).await.map(|_| ()) }
        });
        while !task.is_finished() {
            if asked.count() > before {
                asked.answer(before, answer.clone());
            }
            tokio::task::yield_now().await;
        }
        asked.count() > before
    }

    #[tokio::test]
    async fn what_is_remembered_and_what_is_not() {
        let (lookup, asked) = lookup(LONG, 10);
        assert!(looked_up(&lookup, &asked, "bob", no_role()).await);
        assert!(!looked_up(&lookup, &asked, "bob", no_role()).await, "that he does not exist");
        let down = || Err(LookupError::Shard { shard: "s".to_owned(), reason: "down".to_owned() });
        assert!(looked_up(&lookup, &asked, "eve", down()).await);
        assert!(looked_up(&lookup, &asked, "eve", role()).await, "a failure is none");
        let found = find(&lookup, "eve").await.unwrap();
        lookup.doubt(&found);
        assert!(looked_up(&lookup, &asked, "eve", role()).await, "in doubt");
        lookup.doubt(&found);
        assert!(!looked_up(&lookup, &asked, "eve", role()).await, "an old doubt");
    }

    /// What fails takes as long whether the user exists or not.
    #[tokio::test]
    async fn failures_ask_as_often_whoever_it_is() {
        let questions = async |answer: fn() -> Answer| {
            let (lookup, asked) = lookup(LONG, 10);
            let mut questions = Vec::new();
            let mut now = Instant::now();
            for attempt in 0..8 {
                questions.push(looked_up(&lookup, &asked, "bob", answer()).await);
                let mut found = find(&lookup, "bob").await.unwrap();
                if questions.last() == Some(&true) {
                    // Whoever asked failed against what is new.
                    found.remembered = None;
                }
                if attempt == 5 {
                    now += DOUBTS_APART;
                }
                lookup.doubt_at(&found, now);
            }
            questions
        };
        let expect = [true, false, true, false, false, false, true, false];
        assert_eq!(questions(role).await, expect);
        assert_eq!(questions(no_role).await, expect);
    }

    #[tokio::test]
    async fn without_a_cache_every_login_asks() {
        let (lookup, asked) = lookup(Duration::ZERO, 10);
        assert!(looked_up(&lookup, &asked, "bob", role()).await);
        assert!(looked_up(&lookup, &asked, "bob", role()).await);
    }

    #[tokio::test]
    async fn names_that_are_made_up_cost_no_memory() {
        let (lookup, asked) = lookup(LONG, 10);
        for real in 0..4 {
            looked_up(&lookup, &asked, &format!("real{real}"), role()).await;
        }
        for name in 0..100 {
            looked_up(&lookup, &asked, &format!("x{name}"), no_role()).await;
            assert!(lookup.known.lock().unwrap().len() <= 10);
        }
        assert!(!looked_up(&lookup, &asked, "real0", role()).await, "who exists is kept");
        for name in 0..100 {
            looked_up(&lookup, &asked, &format!("r{name}"), role()).await;
            assert!(lookup.known.lock().unwrap().len() <= 10);
        }
    }

    #[tokio::test]
    async fn whoever_asks_gives_up_in_time() {
        let (lookup, asked) = lookup(LONG, 10);
        let late = lookup.find(&database(), "bob", Duration::from_millis(1)).await;
        assert!(matches!(late, Err(LookupError::Timeout(_))));
        asked.0.lock().unwrap().clear();
        assert!(looked_up(&lookup, &asked, "bob", role()).await, "nobody answers that question any more");
    }
}
