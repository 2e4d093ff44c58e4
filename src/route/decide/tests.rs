use crate::ring::Key;
use crate::route::parameters::tests::body;
use crate::route::refusal;

use super::*;

/// What surrounds a text; three shards, `s1` is home.
struct World {
    topology: Topology,
    session: SessionHints,
    transaction: Option<ShardId>,
    parameters: Vec<u8>,
    types: Vec<u32>,
    key_type: KeyType,
}

fn world() -> World {
    let shards = ["s1", "s2", "s3"].map(|name| (name.to_owned(), 1));
    World {
        topology: Topology::new(&shards, 256, ShardId(0)),
        session: SessionHints::default(),
        transaction: None,
        parameters: body(&[], &[]),
        types: Vec::new(),
        key_type: KeyType::Integer,
    }
}

impl World {
    /// The `nth` positive integer that a shard owns.
    fn key(&self, shard: u16, nth: usize) -> i64 {
        (1..).filter(|&key| self.topology.owner(Key::Integer(key).hash()) == ShardId(shard)).nth(nth).unwrap()
    }

    /// `{1.0}` in a text is the first key of shard 1.
    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for shard in self.topology.ids().map(|shard| shard.0) {
            for nth in 0..2 {
                text = text.replace(&format!("{{{shard}.{nth}}}"), &self.key(shard, nth).to_string());
            }
        }
        text
    }

    fn decide(&self, text: &str, statements: &[Statement]) -> (Shape, Decision) {
        let text = self.fill(text);
        let mut lexed = Lexed::default();
        lexed.lex(text.as_bytes(), true).unwrap();
        let shape = Shape { statements: statements.to_vec(), ..Shape::default() };
        let parameters = Parameters::parse(&self.parameters, &self.types).unwrap();
        let decision = route(&Request {
            shape: &shape,
            text: text.as_bytes(),
            lexed: &lexed,
            parameters: &parameters,
            topology: &self.topology,
            key_type: self.key_type,
            same_encoding: true,
            session_hints: &self.session,
            transaction_shard: self.transaction,
        });
        (shape, decision)
    }

    /// The decision in words; a refusal with its code and message.
    fn check(&self, text: &str, statements: &[Statement], expect: &str) {
        let (shape, decision) = self.decide(text, statements);
        let found = match &decision.route {
            Route::Refused(error) => error.to_string(),
            _ => decision.explain(&shape, &self.topology),
        };
        assert_eq!(found, self.fill(expect), "{text}");
    }
}

fn statement(kind: Kind, target: Target, access: Access) -> Statement {
    Statement { kind, target, access, pin: None, at_primary: false }
}

fn read(target: Target) -> Statement {
    statement(Kind::Query, target, Access::Read)
}

fn write(target: Target) -> Statement {
    statement(Kind::Write, target, Access::Write)
}

fn slots(slots: &[KeySlot], home: bool) -> Target {
    let source = |&slot| KeySource { slot, key_type: KeyType::Integer };
    Target::Keys { keys: slots.iter().map(source).collect(), colocated: true, home }
}

fn keys(wanted: &[KeySlot]) -> Target {
    slots(wanted, false)
}

fn everywhere() -> Target {
    Target::Everywhere {
        table: "jobs".to_owned(),
        column: "user_id".to_owned(),
        colocated: true,
        home: false,
    }
}

fn everywhere_beside_home() -> Target {
    Target::Everywhere {
        table: "jobs".to_owned(),
        column: "user_id".to_owned(),
        colocated: false,
        home: true,
    }
}

fn refused() -> Target {
    Target::Refused("no key".to_owned(), "add it".to_owned())
}

use KeySlot::{Literal, LiteralArray, NegatedLiteral, Null, Param, ParamArray};

#[test]
fn each_target_has_its_place() {
    let world = world();
    let check = |statement, expect| world.check("x", &[statement], expect);
    check(read(Target::Nothing), "any shard: no table");
    check(read(Target::Catalog), "shard s1: system catalogs only");
    check(read(Target::Home), "home shard s1: tables that are not sharded");
    check(write(Target::Home), "home shard s1: tables that are not sharded");
    check(read(Target::Reference), "any shard: reference tables only");
    check(write(Target::Reference), "all shards: reference tables are the same on every shard");
    check(read(everywhere()), "all shards: the key user_id of table jobs is not known");
    check(write(everywhere()), "all shards: the key user_id of table jobs is not known");
    check(statement(Kind::Ddl, Target::EachShard, Access::Write), "all shards: every shard has the schema");
    check(read(refused()), "0A000 no key");
    world.check("", &[], "any shard: no table");
}

#[test]
fn keys_lead_to_their_owners() {
    let world = world();
    let check = |text, wanted: &[KeySlot], expect| world.check(text, &[read(keys(wanted))], expect);
    check("{1.0}", &[Literal(0)], "shard s2: key {1.0}");
    check("'{2.0}'", &[Literal(0)], "shard s3: key {2.0}");
    check("{1.0} {1.1}", &[Literal(0), Literal(1)], "shard s2: one shard owns all its keys");
    check("{1.0} {1.0}", &[Literal(0), Literal(1)], "shard s2: key {1.0}");
    check("{0.0} {2.0}", &[Literal(0), Literal(1)], "shards s1, s3: its keys have several owners");
    check(
        "{2.0} {0.0} {1.0}",
        &[Literal(0), Literal(1), Literal(2)],
        "all shards: its keys have several owners",
    );
    check("'{{1.0},{1.1},NULL}'", &[LiteralArray(0)], "shard s2: one shard owns all its keys");
    check("'{{1.0},{2.1}}'", &[LiteralArray(0)], "shards s2, s3: its keys have several owners");
    check("'{}'", &[LiteralArray(0)], "any shard: the key is NULL, which no row has");
    check("", &[Null], "any shard: the key is NULL, which no row has");
    check("{1.0}", &[Null, Literal(0)], "shard s2: key {1.0}");
    check("1.5", &[Literal(0)], "all shards: a value is not certain to denote a key");
    check("{1.0} 1.5", &[Literal(0), Literal(1)], "all shards: a value is not certain to denote a key");
    check("x", &[Literal(0)], "all shards: a value is not certain to denote a key");
    check("x", &[Param(1)], "all shards: a value is not certain to denote a key");
    let negative = world.topology.owner(Key::Integer(-1).hash());
    let expect = format!("shard {}: key -1", world.topology.name(negative));
    check("-1", &[NegatedLiteral(0)], &expect);
    world.check(
        "1e2",
        &[write(keys(&[Literal(0)]))],
        "0A000 the value given for the shard key is not certain to denote a key",
    );
}

#[test]
fn parameters_are_keys_too() {
    let mut world = world();
    let key = world.key(2, 0);
    let list = format!("{{{key},{}}}", world.key(2, 1));
    let binary = key.to_be_bytes();
    world.parameters = body(&[1, 0, 0], &[Some(&binary), Some(list.as_bytes()), None]);
    world.types = vec![20];
    world.check("x", &[read(keys(&[Param(1)]))], "shard s3: key {2.0}");
    world.check("x", &[read(keys(&[ParamArray(2)]))], "shard s3: one shard owns all its keys");
    world.check("x", &[read(keys(&[Param(3)]))], "any shard: the key is NULL, which no row has");
    world.check(
        "x",
        &[write(keys(&[Param(3)]))],
        "0A000 the shard key is NULL: the row would belong to no shard",
    );
    world.check("x", &[write(keys(&[ParamArray(3)]))], "any shard: the key is NULL, which no row has");
    world.check("x", &[read(keys(&[Param(4)]))], "all shards: a value is not certain to denote a key");
    world.types = vec![701];
    world.check("x", &[read(keys(&[Param(1)]))], "all shards: a value is not certain to denote a key");

    let shape =
        |slots| Shape { statements: vec![read(Target::Nothing), read(keys(slots))], ..Shape::default() };
    assert_eq!(needs_parameters(&shape(&[Literal(0)])), None);
    assert_eq!(needs_parameters(&shape(&[Param(3), ParamArray(7), Param(2), Null])), Some(7));
    assert_eq!(needs_parameters(&Shape::default()), None);
}

#[test]
fn keys_beside_the_home_shard() {
    let world = world();
    let check = |text, wanted: &[KeySlot], expect| world.check(text, &[read(slots(wanted, true))], expect);
    check("{0.0}", &[Literal(0)], "shard s1: key {0.0}");
    check("{1.0}", &[Literal(0)], "shards s1, s2: sharded tables beside tables of the home shard");
    check(
        "{1.0} {2.0}",
        &[Literal(0), Literal(1)],
        "all shards: sharded tables beside tables of the home shard",
    );
    check("", &[Null], "home shard s1: tables that are not sharded");
    world.check(
        "x",
        &[read(everywhere_beside_home())],
        "all shards: the key user_id of table jobs is not known",
    );
}

#[test]
fn a_transaction_draws_what_may_run_anywhere() {
    let mut world = world();
    world.transaction = Some(ShardId(2));
    let check = |statement, expect| world.check("{1.0}", &[statement], expect);
    check(read(Target::Nothing), "shard s3: no table");
    check(read(Target::Catalog), "shard s3: system catalogs only");
    check(read(Target::Reference), "shard s3: reference tables only");
    check(read(keys(&[Null])), "shard s3: the key is NULL, which no row has");
    check(read(Target::Home), "home shard s1: tables that are not sharded");
    check(read(keys(&[Literal(0)])), "shard s2: key {1.0}");
}

#[test]
fn statements_of_one_text_agree_or_are_refused() {
    let world = world();
    let begin = statement(Kind::Begin, Target::Nothing, Access::Read);
    let commit = statement(Kind::Commit { chain: false }, Target::Nothing, Access::Read);
    let key = |slot| read(keys(&[Literal(slot)]));
    let check = |text, statements: &[Statement], expect| world.check(text, statements, expect);
    let differ = "0A000 statements of one query string belong on different shards";
    check("{1.0}", &[begin.clone(), key(0), commit.clone()], "shard s2: key {1.0}");
    check("{1.0} {1.1}", &[key(0), key(1)], "shard s2: key {1.0}");
    check("{1.0} {2.0}", &[key(0), key(1)], differ);
    check("{1.0}", &[key(0), read(Target::Home)], differ);
    check("{0.0}", &[key(0), read(Target::Home)], "shard s1: key {0.0}");
    check("{1.0}", &[read(Target::Catalog), read(Target::Reference), key(0)], "shard s2: key {1.0}");
    check("x", &[read(Target::Reference), read(Target::Catalog)], "any shard: reference tables only");
    check(
        "x",
        &[begin, read(everywhere()), commit],
        "all shards: the key user_id of table jobs is not known",
    );
    check("{1.0}", &[read(everywhere()), key(0)], differ);
    check("x", &[read(everywhere()), read(everywhere())], differ);
    check("x", &[read(Target::Nothing), read(refused()), read(Target::Home)], "0A000 no key");
    let (shape, decision) = world.decide("{1.0} {2.0}", &[key(0), read(Target::Nothing), key(1)]);
    assert_eq!(
        decision.explain(&shape, &world.topology),
        "refused: statements 1 and 3 belong on different shards"
    );
}

#[test]
fn a_comments_shard_is_obeyed() {
    let world = world();
    let check =
        |statement: Statement, expect| world.check("{1.0} /* pgring: shard=s3 */", &[statement], expect);
    let obeyed = "shard s3: hint shard in a comment";
    check(read(keys(&[Literal(0)])), obeyed);
    check(write(keys(&[Literal(0)])), obeyed);
    check(read(everywhere()), obeyed);
    check(read(refused()), obeyed);
    check(read(Target::Home), obeyed);
    check(read(Target::Catalog), obeyed);
    check(read(Target::Nothing), obeyed);
    check(write(Target::Reference), obeyed);
    check(statement(Kind::Ddl, Target::EachShard, Access::Write), obeyed);
    check(statement(Kind::Begin, Target::Nothing, Access::Read), "any shard: no table");
    world.check("/* pgring: shard=all */", &[read(Target::Catalog)], "all shards: hint shard in a comment");
    let (_, decision) = world.decide("x -- pgring: shard=s9", &[read(Target::Home)]);
    let Route::Refused(error) = decision.route else { panic!("{decision:?}") };
    assert_eq!(error.code.as_str(), "42704");
    assert_eq!(error.hint.as_deref(), Some("the shards are s1, s2, s3; all means each of them"));
}

#[test]
fn a_hinted_key_stands_in_for_one_that_is_not_known() {
    let world = world();
    let check =
        |statement: Statement, expect| world.check("{1.0} 1.5 /* pgring: key={2.0} */", &[statement], expect);
    check(read(everywhere()), "shard s3: hinted key");
    check(write(everywhere()), "shard s3: hinted key");
    check(write(refused()), "shard s3: hinted key");
    check(write(keys(&[Literal(1)])), "shard s3: hinted key");
    check(read(Target::Reference), "shard s3: reference tables only");
    check(read(Target::Home), "home shard s1: tables that are not sharded");
    check(write(Target::Reference), "all shards: reference tables are the same on every shard");
    check(statement(Kind::Ddl, Target::EachShard, Access::Write), "all shards: every shard has the schema");
    check(
        read(keys(&[Literal(0)])),
        "22023 the hint says shard \"s3\", but the statement's key belongs to shard \"s2\"",
    );
    world.check("{2.1} /* pgring: key={2.0} */", &[write(keys(&[Literal(0)]))], "shard s3: key {2.1}");
    world.check(
        "/* pgring: key=abc */",
        &[read(everywhere())],
        "22023 the hinted key \"abc\" is not an integer",
    );
    world.check(
        "/* pgring: kye=1 */",
        &[read(everywhere())],
        "22023 hint cannot be understood: \"pgring: kye=1\"",
    );
    let commit = statement(Kind::Commit { chain: false }, Target::Nothing, Access::Read);
    world.check("/* pgring: kye=1 */", &[commit], "any shard: no table");
}

#[test]
fn the_sessions_settings_are_hints() {
    let mut world = world();
    let ddl = || statement(Kind::Ddl, Target::EachShard, Access::Write);
    world.session.shard = Some("s3".to_owned());
    let set = "shard s3: setting pgring.shard";
    for statement in [read(everywhere()), write(everywhere()), read(refused()), read(Target::Catalog), ddl()]
    {
        world.check("x", &[statement], set);
    }
    world.check("{1.0}", &[read(keys(&[Literal(0)]))], set);
    world.check("{2.0}", &[write(keys(&[Literal(0)]))], "shard s3: key {2.0}");
    world.check(
        "{1.0}",
        &[write(keys(&[Literal(0)]))],
        "22023 the hint says shard \"s3\", but the statement's key belongs to shard \"s2\"",
    );
    world.check("x", &[read(Target::Nothing)], "any shard: no table");
    world.check("x", &[read(Target::Home)], "home shard s1: tables that are not sharded");
    world.check("x", &[read(Target::Reference)], "shard s3: reference tables only");
    world.check("x", &[write(Target::Reference)], "all shards: reference tables are the same on every shard");
    world.check("/* pgring: shard=s2 */", &[read(everywhere())], "shard s2: hint shard in a comment");
    world.check("/* pgring: key={1.0} */", &[read(everywhere())], "shard s2: hinted key");

    world.session.shard = Some("ALL".to_owned());
    world.check("{1.0}", &[write(keys(&[Literal(0)]))], "shard s2: key {1.0}");
    world.check("x", &[read(refused())], "all shards: setting pgring.shard");
    world.check("x", &[read(Target::Catalog)], "shard s1: system catalogs only");

    world.session.shard = None;
    world.session.key = Some(world.key(1, 0).to_string());
    world.check("x", &[read(everywhere())], "shard s2: hinted key");
    world.check("x", &[ddl()], "all shards: every shard has the schema");
    world.check("x", &[statement(Kind::Begin, Target::Nothing, Access::Read)], "any shard: no table");

    world.session.shard = Some("s2".to_owned());
    world.check("x", &[read(everywhere())], "shard s2: setting pgring.shard");
    world.session.shard = Some("s1".to_owned());
    world.check("x", &[read(everywhere())], "22023 pgring.key and pgring.shard contradict each other");
    world.session = SessionHints { shard: Some("s9".to_owned()), ..SessionHints::default() };
    world.check("x", &[read(everywhere())], "42704 shard \"s9\" does not exist");

    world.session = SessionHints { read: Some(ReadHint::Replica), ..SessionHints::default() };
    assert_eq!(world.decide("x", &[]).1.read, Some(ReadHint::Replica));
    assert_eq!(world.decide("x -- pgring: fresh", &[]).1.read, Some(ReadHint::Fresh));
}

#[test]
fn one_shard_takes_everything() {
    let mut world = world();
    world.topology = Topology::new(&[("only".to_owned(), 1)], 1, ShardId(0));
    let one = "shard only: the database has one shard";
    for target in
        [Target::Nothing, Target::Home, everywhere(), refused(), Target::EachShard, keys(&[Param(9)])]
    {
        world.check("/* pgring: key=abc */ x", &[read(target)], one);
    }
    world.check("-- pgring: shard=only", &[read(Target::Nothing)], one);
    world.check("-- pgring: shard=s2", &[read(Target::Nothing)], "42704 shard \"s2\" does not exist");
}

#[test]
fn refusals_say_what_to_change() {
    let world = world();
    let check = |text, statement: Statement, message: &str, hint: &str| {
        let (shape, decision) = world.decide(text, &[statement]);
        let error = refusal(&shape, &decision);
        assert_eq!((&*error.message, error.hint.as_deref()), (message, Some(hint)));
    };
    check(
        "x",
        read(everywhere()),
        "statement touches all shards: the key of table \"jobs\" is not known",
        "add a condition user_id = … or a hint /* pgring: shard=NAME */",
    );
    check(
        "{0.0} {1.0}",
        read(keys(&[Literal(0), Literal(1)])),
        "statement touches 2 shards: its keys have several owners",
        "send one statement for each key",
    );
    check("x", read(refused()), "no key", "add it");
}

#[test]
fn access_is_that_of_all() {
    let world = world();
    assert_eq!(world.decide("", &[read(Target::Home)]).1.access, Access::Read);
    assert_eq!(world.decide("", &[write(Target::Home), read(Target::Home)]).1.access, Access::Write);
}

#[test]
fn many_keys_take_linear_time() {
    let world = world();
    let text = (0..100_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let wanted: Vec<KeySlot> = (0..100_000).map(Literal).collect();
    world.check(&text, &[read(keys(&wanted))], "all shards: its keys have several owners");
}

#[test]
fn rows_have_owners() {
    let world = world();
    let owner_of = |key: Value<'_>| copied_owner(&world.topology, KeyType::Integer, true, key);
    let key = world.key(1, 0);
    assert_eq!(owner_of(Value::Text(key.to_string().as_bytes())), Some(ShardId(1)));
    assert_eq!(owner_of(Value::Binary(&key.to_be_bytes())), Some(ShardId(1)));
    assert_eq!(owner_of(Value::Text(b"1e3")), None);
    assert_eq!(owner_of(Value::Null), None);

    let text = world.fill("INSERT INTO jobs (user_id) VALUES ({2.0}), (NULL), (1.5)");
    let mut lexed = Lexed::default();
    lexed.lex(text.as_bytes(), true).unwrap();
    let parameters = Parameters::parse(&world.parameters, &world.types).unwrap();
    let request = Request {
        shape: &Shape::default(),
        text: text.as_bytes(),
        lexed: &lexed,
        parameters: &parameters,
        topology: &world.topology,
        key_type: world.key_type,
        same_encoding: true,
        session_hints: &world.session,
        transaction_shard: None,
    };
    for (slot, expect) in
        [(KeySlot::Literal(0), Some(ShardId(2))), (KeySlot::Null, None), (KeySlot::Literal(1), None)]
    {
        let key = KeySource { slot, key_type: KeyType::Integer };
        assert_eq!(owner(&request, &key).ok(), expect, "{slot:?}");
    }
}
