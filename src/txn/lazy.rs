//! One client's transaction.
//!
//! `BEGIN` is answered at once and sent together with the first statement that has a shard, so
//! that an empty transaction costs no server and the shard is known by then. What the client
//! did in between (savepoints, `SET LOCAL`) waits in the journal and is replayed there.

use super::Xid;
use crate::backend::Settings;
use crate::ring::ShardId;

/// Where the transaction is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// There is none.
    #[default]
    Idle,
    /// The client has one; no server does.
    Pending,
    /// It runs on the session's server.
    Open,
}

/// What a statement did to the session's settings, valid if its transaction commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// `SET`: name, the statement that repeats it, and whether it ends with the transaction.
    Set(String, String, bool),
    /// `RESET name`.
    Reset(String),
    /// `RESET ALL`.
    ResetAll,
}

impl Change {
    /// What makes it on another server.
    pub fn statement(&self) -> String {
        match self {
            Change::Set(_, statement, _) => statement.clone(),
            Change::Reset(name) => format!("RESET {name}"),
            Change::ResetAll => "RESET ALL".to_owned(),
        }
    }
}

/// See the module.
#[derive(Default, Debug)]
pub struct Transaction {
    phase: Phase,
    /// An error of pgring's own has ended it, which its server does not know.
    failed: bool,
    /// What a shard that joins has to run first, `BEGIN` included.
    journal: Vec<String>,
    /// It is kept while the transaction is open.
    journals: bool,
    /// `BEGIN` and whatever else says how the transaction is (`SET TRANSACTION`, a repeated `BEGIN`'s
    /// options): what the next one of a chain begins with. Empty where a server has begun it by itself.
    characteristics: Vec<String>,
    /// How many of these it has from the one that it is chained to.
    inherited: usize,
    /// Servers are told of a chain by statements, since to them it is none.
    retold: bool,
    changes: Vec<Change>,
    savepoints: Vec<Savepoint>,
    /// It has changed the schema on several shards.
    rebuilds: bool,
    /// Where it may have written, in the order of joining; the first apart, since mostly there is
    /// no other.
    writer: Option<Writer>,
    writers: Vec<Writer>,
    decision: Option<Decision>,
    /// What PostgreSQL cannot prepare, if it has done something of the kind.
    unpreparable: Option<Box<Unpreparable>>,
}

#[derive(Clone, Copy, Debug)]
struct Unpreparable {
    what: &'static str,
    /// How many savepoints there were; `None`: no `ROLLBACK TO` undoes it for certain, and no end that
    /// what follows is sent behind.
    savepoints: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Writer {
    shard: ShardId,
    /// How many savepoints there were when it wrote first.
    savepoints: usize,
}

/// The row by which a transaction over several shards is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The transaction's name.
    pub xid: Xid,
    /// In whose transaction the row is.
    pub decider: ShardId,
    /// How many savepoints there were when it was inserted; `None`: it has to be, still or again.
    savepoints: Option<usize>,
}

impl Decision {
    /// Has it been inserted, and not been undone since?
    pub fn stands(&self) -> bool {
        self.savepoints.is_some()
    }
}

#[derive(Debug)]
struct Savepoint {
    name: String,
    /// Lengths of the journal (the `SAVEPOINT` included), of the characteristics and of the
    /// changes when it was set.
    journal: usize,
    characteristics: usize,
    changes: usize,
}

impl Transaction {
    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Has pgring itself ended it? Then only its end, or `ROLLBACK TO`, is accepted.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// `BEGIN`, as the client wrote it.
    pub fn begin(&mut self, statement: String) {
        self.finish();
        self.phase = Phase::Pending;
        self.characteristics.push(statement.clone());
        self.journal.push(statement);
    }

    /// `SET TRANSACTION`, before there is a server to run it or when its servers have run it.
    pub fn characterise(&mut self, statement: String) {
        self.characteristics.push(statement.clone());
        match self.phase {
            Phase::Pending => self.record(statement),
            Phase::Idle | Phase::Open => self.note(statement),
        }
    }

    /// A server has run a `BEGIN` of its own accord, with these options: of a transaction that was there
    /// before, they are its own from now on.
    pub fn has_begun(&mut self, options: Option<String>) {
        let repeated = self.phase == Phase::Open && !self.characteristics.is_empty();
        self.phase = Phase::Open;
        if let Some(options) = options.filter(|_| repeated) {
            self.characterise(options);
        }
    }

    /// A statement that belongs to the transaction, before there is a server to run it.
    pub fn record(&mut self, statement: String) {
        if self.phase == Phase::Pending {
            self.journal.push(statement);
        }
    }

    /// A server joins: what it has to run first. No other one will.
    pub fn open(&mut self) -> Vec<String> {
        self.phase = Phase::Open;
        std::mem::take(&mut self.journal)
    }

    /// As [`Transaction::open`], where others may join later: they are to run the same, and what
    /// happens until then.
    pub fn open_for_several(&mut self) -> Vec<String> {
        self.phase = Phase::Open;
        self.journals = true;
        self.journal.clone()
    }

    /// A statement of the transaction has run on its servers; one that joins has to run it too.
    pub fn note(&mut self, statement: String) {
        if self.journals && self.phase == Phase::Open {
            self.journal.push(statement);
        }
    }

    /// The server says that a transaction is open, however it came about.
    pub fn is_open(&mut self) {
        self.phase = Phase::Open;
    }

    /// pgring refuses a statement: as any error does, that ends a transaction.
    pub fn fail(&mut self) {
        self.failed = self.phase != Phase::Idle;
    }

    /// Its end has come, before the batch's: what follows is not refused any more. Another one begins if
    /// it is a `chain`; what a server begins otherwise is not known here.
    pub fn has_ended(&mut self, chain: bool) {
        self.failed = false;
        self.forget_savepoints();
        self.unpreparable = self.unpreparable.take().filter(|done| done.savepoints.is_none());
        if !chain {
            self.characteristics.clear();
        }
        (self.inherited, self.retold) = (self.characteristics.len(), false);
        if self.journals {
            self.journal.clone_from(&self.characteristics);
        }
    }

    /// No server has the transaction any more: the client's is failed, and nowhere.
    pub fn lost(&mut self) {
        let characteristics = std::mem::take(&mut self.characteristics);
        let inherited = self.inherited;
        self.finish();
        (self.characteristics, self.inherited) = (characteristics, inherited);
        self.phase = Phase::Pending;
        self.failed = true;
    }

    /// A setting changes, if the transaction commits. One of the transaction itself ends with it.
    pub fn change(&mut self, change: Change) {
        if let Change::Set(name, statement, _) = &change
            && is_characteristic(name)
        {
            return self.characterise(statement.clone());
        }
        self.note(change.statement());
        self.changes.push(change);
    }

    /// It has changed the schema on several shards: what it has made is known when it commits.
    pub fn rebuild(&mut self) {
        self.rebuilds = true;
    }

    /// Has it?
    pub fn rebuilds(&self) -> bool {
        self.rebuilds
    }

    /// It may have written there, and no `ROLLBACK TO` undoes that for certain: what the savepoints will
    /// have been by then is not known.
    pub fn wrote_throughout(&mut self, shard: ShardId) {
        self.wrote(shard);
        for writer in self.writer.iter_mut().chain(&mut self.writers) {
            if writer.shard == shard {
                writer.savepoints = 0;
            }
        }
    }

    /// It may have written there.
    pub fn wrote(&mut self, shard: ShardId) {
        let writer = Writer { shard, savepoints: self.savepoints.len() };
        match self.writer {
            None => self.writer = Some(writer),
            Some(_) if self.has_written(shard) => {}
            Some(_) => self.writers.push(writer),
        }
    }

    /// May it have?
    pub fn has_written(&self, shard: ShardId) -> bool {
        self.writer.iter().chain(&self.writers).any(|writer| writer.shard == shard)
    }

    /// What has to be inserted, since several shards have been written to: `name` is asked for a
    /// transaction that has none yet.
    pub fn wanted_decision(&mut self, name: impl FnOnce() -> Xid) -> Option<Decision> {
        let first = self.writer.filter(|_| !self.writers.is_empty())?;
        let made = || Decision { xid: name(), decider: first.shard, savepoints: None };
        let decision = self.decision.get_or_insert_with(made);
        (!decision.stands()).then_some(*decision)
    }

    /// Would there be one?
    pub fn wants_decision(&self) -> bool {
        !self.writers.is_empty() && self.decision.is_none_or(|decision| !decision.stands())
    }

    /// It has been asked for, or inserted: it stands unless that fails the transaction.
    pub fn decision_inserted(&mut self) {
        let savepoints = self.savepoints.len();
        if let Some(decision) = &mut self.decision {
            decision.savepoints = Some(savepoints);
        }
    }

    /// The decision, whether it stands or not.
    pub fn decision(&self) -> Option<Decision> {
        self.decision
    }

    /// It does what PostgreSQL cannot prepare; `settled`: with the savepoints that it has now, and a
    /// `ROLLBACK TO` undoes it.
    pub fn cannot_be_prepared(&mut self, what: &'static str, settled: bool) {
        let savepoints = settled.then_some(self.savepoints.len());
        // What came first is undone last, unless nothing is known to undo it.
        if savepoints.is_none() || self.unpreparable.is_none() {
            self.unpreparable = Some(Box::new(Unpreparable { what, savepoints }));
        }
    }

    /// What that was.
    pub fn unpreparable(&self) -> Option<&'static str> {
        self.unpreparable.as_ref().map(|unpreparable| unpreparable.what)
    }

    /// Has it written on several shards?
    pub fn has_several_writers(&self) -> bool {
        !self.writers.is_empty()
    }

    /// What was implicit is over: nothing has been written.
    pub fn forget_writers(&mut self) {
        (self.writer, self.decision, self.unpreparable) = (None, None, None);
        self.writers.clear();
    }

    /// `BEGIN`, each `SET TRANSACTION` and its like.
    pub fn characteristics(&self) -> &[String] {
        &self.characteristics
    }

    /// Has it set how transactions begin from now on? The next one of a chain begins as this one did.
    pub fn alters_defaults(&self) -> bool {
        self.changes.iter().any(|change| match change {
            Change::Set(name, ..) | Change::Reset(name) => name.starts_with("default_transaction_"),
            Change::ResetAll => true,
        })
    }

    /// The changes so far, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// `SAVEPOINT name`; with `statement` while there is no server.
    pub fn savepoint(&mut self, name: String, statement: Option<String>) {
        match statement {
            Some(statement) => self.record(statement),
            None => self.note(format!("SAVEPOINT {}", quoted(&name))),
        }
        self.savepoints.push(Savepoint {
            name,
            journal: self.journal.len(),
            characteristics: self.characteristics.len(),
            changes: self.changes.len(),
        });
    }

    /// How many savepoints there are.
    pub fn savepoints(&self) -> usize {
        self.savepoints.len()
    }

    /// How many savepoints stand before the last one of this name.
    pub fn depth_of(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|savepoint| savepoint.name == name)
    }

    /// What a shard that joins will run first.
    pub fn journal(&self) -> &[String] {
        &self.journal
    }

    /// `ROLLBACK TO name`: what was done since is forgotten, the savepoint stays, and the
    /// transaction lives. False when there is no such savepoint.
    pub fn rollback_to(&mut self, name: &str) -> bool {
        let Some(at) = self.depth_of(name) else {
            return false;
        };
        self.savepoints.truncate(at + 1);
        self.changes.truncate(self.savepoints[at].changes);
        self.journal.truncate(self.savepoints[at].journal);
        self.characteristics.truncate(self.savepoints[at].characteristics);
        self.inherited = self.inherited.min(self.characteristics.len());
        self.unwrite(at);
        self.failed = false;
        true
    }

    /// `RELEASE name`; with `statement` while there is no server. False when there is no such
    /// savepoint.
    pub fn release(&mut self, name: &str, statement: Option<String>) -> bool {
        let Some(at) = self.depth_of(name) else {
            return false;
        };
        match statement {
            Some(statement) => self.record(statement),
            None => self.note(format!("RELEASE SAVEPOINT {}", quoted(name))),
        }
        // PostgreSQL lets nothing be said behind a savepoint but that it only reads, and takes that back
        // with it (`CommitSubTransaction`).
        self.characteristics.truncate(self.savepoints[at].characteristics);
        self.savepoints.truncate(at);
        for writer in self.writer.iter_mut().chain(&mut self.writers) {
            writer.savepoints = writer.savepoints.min(at);
        }
        if let Some(decision) = &mut self.decision {
            decision.savepoints = decision.savepoints.map(|savepoints| savepoints.min(at));
        }
        if let Some(unpreparable) = &mut self.unpreparable {
            unpreparable.savepoints = unpreparable.savepoints.map(|savepoints| savepoints.min(at));
        }
        true
    }

    /// All that was written behind so many savepoints is undone.
    fn unwrite(&mut self, at: usize) {
        self.writers.retain(|writer| writer.savepoints <= at);
        if self.writer.is_some_and(|writer| writer.savepoints > at) {
            self.writer = (!self.writers.is_empty()).then(|| self.writers.remove(0));
        }
        let stays = |done: &Unpreparable| done.savepoints.is_none_or(|savepoints| savepoints <= at);
        self.unpreparable = self.unpreparable.take().filter(|done| stays(done));
        // One that does not stand is nobody's: who decides may be another one then.
        self.decision = self.decision.filter(|decision| decision.savepoints.is_some_and(|made| made <= at));
    }

    /// Its end, either way. The settings of one that committed are taken with
    /// [`Transaction::commit`] before.
    pub fn finish(&mut self) {
        *self = Transaction::default();
    }

    /// `AND CHAIN` while no shard has it: the next one has this one's characteristics. To PostgreSQL a
    /// failed one has only those that it began with, as what has been set in it is undone
    /// (`AbortTransaction`): a `BEGIN`'s options are not among them, a chain's are.
    pub fn chain(&mut self) {
        if self.failed {
            self.characteristics.truncate(self.inherited);
        }
        let mut characteristics = std::mem::take(&mut self.characteristics).into_iter();
        self.begin(characteristics.next().unwrap_or_else(|| "BEGIN".to_owned()));
        for statement in characteristics {
            self.characterise(statement);
        }
        (self.inherited, self.retold) = (self.characteristics.len(), true);
    }

    /// Has it been chained to another one without its servers' knowing? One where it fails lets go of what
    /// it was told.
    pub fn is_retold(&self) -> bool {
        self.retold
    }

    /// It has committed: takes the changes that outlive it into `session`, where a reset
    /// parameter has the value the session began with, and into `server`, where it has the
    /// connection's own.
    pub fn commit(&mut self, initial: &Settings, session: &mut Settings, server: &mut Settings) {
        self.apply(initial, session, server);
        self.forget_changes();
    }

    /// As [`Transaction::commit`], of one of several servers.
    pub fn apply(&self, initial: &Settings, session: &mut Settings, server: &mut Settings) {
        for change in &self.changes {
            if !matches!(change, Change::Set(_, _, true)) {
                take_effect(change, initial, session, server);
            }
        }
    }

    /// What holds in it while it lasts, `session` being what held before.
    pub fn in_force(&self, initial: &Settings, session: &Settings) -> Settings {
        let (mut now, mut server) = (session.clone(), Settings::default());
        for change in &self.changes {
            take_effect(change, initial, &mut now, &mut server);
        }
        now
    }

    /// The changes so far are undone.
    pub fn forget_changes(&mut self) {
        self.changes.clear();
        self.forget_savepoints();
    }

    /// Whoever has written stays a writer: what is under way may have begun the next one of a chain.
    fn forget_savepoints(&mut self) {
        self.savepoints.clear();
        for writer in self.writer.iter_mut().chain(&mut self.writers) {
            writer.savepoints = 0;
        }
    }

    /// Has its client said that it only reads? `default`: what it is where nothing says so.
    pub fn is_read_only(&self, default: bool) -> bool {
        // What a server has begun by itself is not known.
        let default = default && !self.characteristics.is_empty();
        self.characteristics.iter().fold(default, |now, statement| says_read_only(statement).unwrap_or(now))
    }
}

/// Does this statement (`BEGIN`, `SET TRANSACTION` …) say that its transaction only reads, or that it
/// does not? The last word counts. Nothing is read into comments and odd spellings: to take a
/// transaction for one that writes costs it a replica, and one for a reader that writes an error.
pub fn says_read_only(statement: &str) -> Option<bool> {
    let mut words: Vec<String> = statement
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '=' | '(' | ')'))
        .map(|word| word.trim_matches(['\'', '"']).to_ascii_lowercase())
        .filter(|word| !word.is_empty())
        .collect();
    if words.iter().any(|word| word.contains("--") || word.contains("/*")) {
        return Some(false);
    }
    if let Some(at) = words.iter().position(|word| word.ends_with("transaction_read_only")) {
        let value = words.drain(at + 1..).find(|word| word != "to").unwrap_or_default();
        return Some(["on", "true", "yes", "1"].contains(&&*value));
    }
    let last =
        words.windows(2).rev().find(|pair| pair[0] == "read" && ["only", "write"].contains(&&*pair[1]));
    last.map(|pair| pair[1] == "only")
}

/// Is it a parameter of the transaction, such as `transaction_read_only`? It ends with the transaction,
/// whatever the words.
pub fn is_characteristic(name: &str) -> bool {
    name.starts_with("transaction_")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn take_effect(change: &Change, initial: &Settings, session: &mut Settings, server: &mut Settings) {
    match change {
        Change::Set(name, statement, _) => {
            if name == "session_authorization" {
                // Whoever one is from now on, it is without a role.
                session.reset("role");
                server.reset("role");
            }
            session.set(name, statement.clone());
            server.set(name, statement.clone());
        }
        Change::Reset(name) => {
            let role = (name == "session_authorization").then_some("role");
            for name in role.into_iter().chain([name.as_str()]) {
                server.reset(name);
                match initial.get(name) {
                    Some(statement) => session.set(name, statement.to_owned()),
                    None => session.reset(name),
                }
            }
        }
        Change::ResetAll => {
            server.reset_all();
            session.reset_all_to(initial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, local: bool) -> Change {
        Change::Set(name.into(), format!("SET {name} = 1"), local)
    }

    #[test]
    fn a_shard_that_joins_hears_what_happened_before() {
        let mut tx = Transaction::default();
        tx.begin("BEGIN READ ONLY".into());
        tx.savepoint("a".into(), Some("SAVEPOINT a".into()));
        tx.record("SET LOCAL x = 1".into());
        tx.savepoint("b".into(), Some("SAVEPOINT b".into()));
        assert!(tx.rollback_to("a"));
        assert!(!tx.rollback_to("b"), "b went with the rollback");
        tx.record("SET LOCAL y = 1".into());
        assert_eq!(tx.open(), ["BEGIN READ ONLY", "SAVEPOINT a", "SET LOCAL y = 1"]);
        assert_eq!(tx.phase(), Phase::Open);
    }

    #[test]
    fn a_late_shard_hears_what_happened_on_the_others() {
        let mut tx = Transaction::default();
        tx.begin("BEGIN".into());
        assert_eq!(tx.open_for_several(), ["BEGIN"]);
        tx.savepoint("a\"b".into(), None);
        tx.change(set("x", true));
        tx.savepoint("c".into(), None);
        tx.note("SET CONSTRAINTS ALL DEFERRED".into());
        let before = ["BEGIN", "SAVEPOINT \"a\"\"b\"", "SET x = 1"];
        assert_eq!(tx.open_for_several()[..3], before);
        assert_eq!(tx.open_for_several().len(), 5);
        assert!(tx.rollback_to("c") && tx.release("c", None));
        assert_eq!(tx.open_for_several()[3..], ["SAVEPOINT \"c\"", "RELEASE SAVEPOINT \"c\""]);
        assert!(tx.rollback_to("a\"b"));
        assert_eq!(tx.open_for_several(), before[..2]);
    }

    #[test]
    fn a_chain_keeps_the_characteristics() {
        let mut tx = Transaction::default();
        tx.begin("BEGIN".into());
        tx.characterise("SET TRANSACTION READ ONLY".into());
        tx.savepoint("a".into(), Some("SAVEPOINT a".into()));
        tx.record("SET CONSTRAINTS ALL DEFERRED".into());
        tx.chain();
        tx.characterise("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE".into());
        tx.lost();
        tx.chain();
        assert!(!tx.is_failed());
        assert_eq!(tx.journal(), ["BEGIN", "SET TRANSACTION READ ONLY"]);
        tx.begin("BEGIN READ ONLY".into());
        tx.fail();
        tx.chain();
        assert_eq!(tx.open(), ["BEGIN"]);
    }

    #[test]
    fn what_its_servers_have_run_is_chained_too() {
        let mut tx = Transaction::default();
        tx.begin("BEGIN".into());
        tx.open_for_several();
        tx.savepoint("a".into(), None);
        tx.characterise("SET TRANSACTION READ ONLY".into());
        assert!(tx.rollback_to("a"));
        tx.has_begun(Some("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE".into()));
        let set = "SELECT set_config('transaction_deferrable', 'on', true)";
        tx.change(Change::Set("transaction_deferrable".into(), set.into(), true));
        assert!(tx.changes().is_empty());
        let chained = ["BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", set];
        assert_eq!(tx.journal(), [chained[0], "SAVEPOINT \"a\"", chained[1], set]);
        tx.has_ended(true);
        assert_eq!(tx.journal(), chained);
        tx.chain();
        assert_eq!(tx.open_for_several(), chained);
        // What a server begins behind the end has none of it.
        tx.has_ended(false);
        tx.has_begun(Some("SET TRANSACTION READ ONLY".into()));
        assert!(tx.journal().is_empty() && tx.characteristics().is_empty());
    }

    #[test]
    fn a_rollback_to_revives() {
        let mut tx = Transaction::default();
        tx.begin("BEGIN".into());
        tx.savepoint("a".into(), Some("SAVEPOINT a".into()));
        tx.fail();
        assert!(tx.is_failed());
        assert!(!tx.rollback_to("nowhere") && tx.is_failed());
        assert!(tx.rollback_to("a") && !tx.is_failed());
        assert!(tx.release("a", Some("RELEASE a".into())));
        assert!(!tx.release("a", None));
        assert_eq!(tx.open(), ["BEGIN", "SAVEPOINT a", "RELEASE a"]);
    }

    /// `w`: a writer joins and the decision is inserted where one is wanted; `s`, `t`: savepoints,
    /// in capitals rolled back to; `r`: the first one is released. Then whether the decision stands, and
    /// who has written.
    #[test]
    fn a_rollback_to_may_undo_the_decision() {
        let name = || Xid::new(std::time::UNIX_EPOCH, 7);
        for (story, stands, writers) in [
            ("w", false, "0"),
            ("ww", true, "01"),
            ("sww", true, "01"),
            ("swwS", false, ""),
            ("wwsS", true, "01"),
            ("wswS", false, "0"),
            ("wswSw", true, "02"),
            ("swwtT", true, "01"),
            ("swwtS", false, ""),
            ("swtwS", false, ""),
            ("swtwT", false, "0"),
            ("swtwTw", true, "02"),
            ("stwwT", false, ""),
            ("swwSw", false, "2"),
            ("swwSww", true, "23"),
            ("swwr", true, "01"),
            ("swwrtT", true, "01"),
            ("stwwrS", true, "01"),
        ] {
            let mut tx = Transaction::default();
            tx.begin("BEGIN".into());
            let mut shard = 0;
            for letter in story.chars() {
                match letter {
                    'w' => {
                        tx.wrote(ShardId(shard));
                        shard += 1;
                        if let Some(wanted) = tx.wanted_decision(name) {
                            assert!(tx.has_written(wanted.decider), "{story}");
                            tx.decision_inserted();
                        }
                    }
                    'r' => _ = tx.release("s", None),
                    's' | 't' => tx.savepoint(letter.into(), None),
                    other => _ = tx.rollback_to(&other.to_lowercase().to_string()),
                }
            }
            assert_eq!(tx.decision().is_some_and(|decision| decision.stands()), stands, "{story}");
            assert!(!tx.wants_decision(), "{story}");
            let wrote: String =
                (0..shard).filter(|at| tx.has_written(ShardId(*at))).map(|at| at.to_string()).collect();
            assert_eq!(wrote, writers, "{story}");
        }
    }

    /// `n`: it notifies; `p`: in a pipeline; `s`: a savepoint, in capitals rolled back to; `r`: it is
    /// released; `c`: a chain. Then whether it can be prepared.
    #[test]
    fn what_cannot_be_prepared_may_be_undone() {
        for (story, expect) in [
            ("", true),
            ("n", false),
            ("nc", true),
            ("ncn", false),
            ("pc", false),
            ("sn", false),
            ("snS", true),
            ("nsS", false),
            ("nsnS", false),
            ("spS", false),
            ("snpS", false),
            ("snr", false),
            ("snrsS", false),
            ("snc", true),
        ] {
            let mut tx = Transaction::default();
            tx.begin("BEGIN".into());
            for letter in story.chars() {
                match letter {
                    'n' => tx.cannot_be_prepared("NOTIFY", true),
                    'p' => tx.cannot_be_prepared("NOTIFY", false),
                    's' => tx.savepoint("s".into(), None),
                    'r' => _ = tx.release("s", None),
                    'c' => tx.has_ended(true),
                    _ => _ = tx.rollback_to("s"),
                }
            }
            assert_eq!(tx.unpreparable().is_none(), expect, "{story}");
        }
    }

    #[test]
    fn a_writer_whose_savepoints_are_not_known_stays_one() {
        let (a, b) = (ShardId(0), ShardId(1));
        let mut tx = Transaction::default();
        tx.begin("BEGIN".into());
        tx.savepoint("s".into(), None);
        tx.wrote(a);
        tx.wrote_throughout(a);
        tx.wrote(b);
        assert!(tx.rollback_to("s"));
        assert_eq!((tx.has_written(a), tx.has_written(b)), (true, false));
        // A chain: what was written before the end does not count its savepoints any more.
        let mut tx = Transaction::default();
        tx.begin("BEGIN".into());
        tx.savepoint("s".into(), None);
        tx.wrote(a);
        tx.has_ended(true);
        tx.savepoint("t".into(), None);
        assert!(tx.rollback_to("t"));
        assert!(tx.has_written(a));
    }

    #[test]
    fn read_only_transactions() {
        for (statements, expect) in [
            (&["BEGIN"][..], false),
            (&["begin read  only"], true),
            (&["START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"], true),
            (&["BEGIN READ ONLY", "SET TRANSACTION READ WRITE"], false),
            (&["BEGIN", "SET TRANSACTION READ ONLY"], true),
            (&["BEGIN READ ONLY", "SET CONSTRAINTS ALL IMMEDIATE"], true),
            (&["BEGIN READ WRITE, READ ONLY"], true),
            (&["BEGIN ISOLATION LEVEL READ COMMITTED"], false),
            (&["begin isolation level repeatable read,read only;"], true),
            (&["BEGIN", "SET transaction_read_only = on"], true),
            (&["BEGIN", "SET LOCAL transaction_read_only TO 'true'"], true),
            (&["BEGIN READ ONLY", "set transaction_read_only=off;"], false),
            (&["BEGIN READ ONLY", "SET transaction_read_only TO DEFAULT"], false),
            (&["BEGIN", "SELECT pg_catalog.set_config('transaction_read_only', 'on', true)"], true),
            (&["BEGIN /* READ ONLY */"], false),
            (&["BEGIN -- READ ONLY"], false),
        ] {
            let mut tx = Transaction::default();
            tx.begin(statements[0].into());
            statements[1..].iter().for_each(|statement| tx.characterise((*statement).into()));
            assert_eq!(tx.is_read_only(false), expect, "{statements:?}");
        }
        let mut tx = Transaction::default();
        tx.begin("BEGIN".into());
        tx.savepoint("a".into(), None);
        tx.characterise("SET TRANSACTION READ ONLY".into());
        assert!(tx.is_read_only(false));
        tx.release("a", None);
        assert!(!tx.is_read_only(false), "as the savepoint has found it");
        let mut tx = Transaction::default();
        assert!(!tx.is_read_only(true), "it is a server's own");
        tx.begin("BEGIN".into());
        assert!(tx.is_read_only(true));
        tx.characterise("SET TRANSACTION READ WRITE".into());
        assert!(!tx.is_read_only(true));
    }

    #[test]
    fn an_error_outside_a_transaction_ends_nothing() {
        let mut tx = Transaction::default();
        tx.fail();
        assert!(!tx.is_failed());
    }

    #[test]
    fn settings_that_outlive_it() {
        let mut tx = Transaction::default();
        tx.begin("BEGIN".into());
        tx.change(set("kept", false));
        tx.change(set("local", true));
        tx.savepoint("a".into(), None);
        tx.change(set("undone", false));
        assert!(tx.rollback_to("a"));
        let (mut session, mut server) = (Settings::default(), Settings::default());
        tx.commit(&Settings::default(), &mut session, &mut server);
        assert_eq!(
            (session.get("kept"), session.get("local"), session.get("undone")),
            (Some("SET kept = 1"), None, None)
        );
        assert_eq!(session, server);
    }

    /// PostgreSQL's guc.c does so wherever `session_authorization` is assigned.
    #[test]
    fn another_session_user_has_no_role() {
        let change = |name: &str| Change::Set(name.into(), format!("SET {name} = 'x'"), false);
        let reset = || Change::Reset("session_authorization".into());
        let check = |changes: Vec<Change>, role: Option<&str>| {
            let mut initial = Settings::default();
            initial.set("role", "SET role = 'first'".into());
            let (mut session, mut server) = (initial.clone(), initial.clone());
            let mut tx = Transaction::default();
            changes.into_iter().for_each(|change| tx.change(change));
            tx.commit(&initial, &mut session, &mut server);
            assert_eq!(session.get("role"), role);
        };
        check(vec![change("role"), change("session_authorization")], None);
        check(vec![change("session_authorization"), change("role")], Some("SET role = 'x'"));
        check(vec![change("role"), reset()], Some("SET role = 'first'"));
    }

    #[test]
    fn a_reset_goes_back_to_what_the_session_began_with() {
        let mut initial = Settings::default();
        initial.set("x", "SET x = 'start'".into());
        let (mut session, mut server) = (initial.clone(), initial.clone());
        let mut tx = Transaction::default();
        tx.change(set("x", false));
        tx.change(Change::Reset("x".into()));
        tx.commit(&initial, &mut session, &mut server);
        assert_eq!(session, initial);
        assert_eq!(server.get("x"), None);
        tx.change(set("y", false));
        tx.change(Change::ResetAll);
        tx.commit(&initial, &mut session, &mut server);
        assert_eq!(session, initial);
        assert!(server.is_empty());
    }
}
