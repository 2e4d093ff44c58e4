//! What is wrong with a file: one row a mistake, with its line and what is said of it.

use super::*;

#[test]
fn wrong_values() {
    for (text, expected) in [
        ("cluster = \"a:b\"", &["1: cluster: must not contain ':'"][..]),
        ("cluster = 5", &["1: cluster: must be a string, not an integer; \"pgring\""]),
        ("[pool]\nsize = 0", &["2: pool.size: must be at least 1; from 1 to 100000"]),
        ("[pool]\nsize = -1", &["2: pool.size: must be at least 1"]),
        ("[pool]\nsize = 100001", &["2: pool.size: must be at most 100000"]),
        ("[pool]\nsize = 99999999999999999999999999999999999999999999", &["2: pool.size: must be at most"]),
        ("[health]\nfailures = -9999999999", &["2: health.failures: must be at least 1"]),
        ("[pool]\nsize = \"20\"", &["2: pool.size: must be a whole number, not a string; without quotes"]),
        ("[pool]\nsize = 2.0", &["2: pool.size: must be a whole number, not a float"]),
        ("[pool]\nmin_idle = 30", &["2: pool.min_idle: must be at most pool.size, which is 20"]),
        ("[pool]\nmode = \"statement\"", &["2: pool.mode: none of its values; \"transaction\", \"session\""]),
        ("[pool]\nmode = \"sesion\"", &["2: pool.mode: none of its values; did you mean \"session\"?"]),
        ("[pool]\nidle_timeout = 5", &["2: pool.idle_timeout: must be a string, not an integer; \"5s\""]),
        ("[pool]\nidle_timeout = \"5\"", &["2: pool.idle_timeout: no unit; \"5s\""]),
        ("[pool]\nidle_timeout = \"0\"", &["2: pool.idle_timeout: must be more than 0"]),
        ("[pool]\nidle_timeout = \"soon\"", &["2: pool.idle_timeout: is not a duration"]),
        ("[pool]\nprepared_statements = 0", &["2: pool.prepared_statements: must be at least 1"]),
        ("pool = 3", &["1: pool: must be a table, not an integer; [pool]"]),
        ("[[pool]]\nsize = 3", &["1: pool: must be a table, not a list; [pool]"]),
        ("[routing]\ngather_memory = \"64MB\"", &["2: routing.gather_memory: thousands; \"64MiB\""]),
        ("[routing]\ngather_limit = \"0\"", &["2: routing.gather_limit: must be more than 0"]),
        ("[routing]\nread_your_writes = \"yes\"", &["2: routing.read_your_writes: a boolean; true or false"]),
        ("[http]\naddress = \"localhost:9464\"", &["2: http.address: not an IP; \"127.0.0.1:9464\""]),
        ("[http]\naddress = \"127.0.0.1\"", &["2: http.address: no port; \"127.0.0.1:9464\""]),
        ("[listen]\naddress = []", &["2: listen.address: at least one"]),
        ("[listen]\naddress = 6432", &["2: listen.address: a list of strings, not an integer"]),
        (
            "[listen]\naddress = [\n  \"0.0.0.0:1\",\n  5,\n  \"nowhere\",\n  \"0.0.0.0:1\",\n]",
            &[
                "4: listen.address[1]: must be a string",
                "5: listen.address[2]: not an IP",
                "6: listen.address[3]: already listened on on line 3",
            ],
        ),
        (
            "[admin]\nusers = [\"root\", \"app\"]",
            &["2: admin.users[0]: \"root\" is no [[user]]; add a [[user]]"],
        ),
        ("[admin]\nstats_users = \"eve\"", &["2: admin.stats_users: \"eve\" is no [[user]]"]),
        ("[admin]\nusers = [\"app\", \"app\"]", &["2: admin.users[1]: already named on line 2"]),
        ("[auth]\nfunction = \"lookup\"", &["2: auth.function: does not name its schema"]),
        ("[auth]\nfunction = \"a.b.c\"", &["2: auth.function: not the name of a function"]),
        ("[auth]\nfunction = \"a.b(); DROP TABLE x; --\"", &["2: auth.function: not the name of a function"]),
        ("[auth]\nfunction = \"a.B\"", &["2: auth.function: not the name of a function"]),
        ("[auth]\nfunction = \"a.\"", &["2: auth.function: not the name of a function"]),
        ("[auth]\nquery = false\nfunction = \"a.b\"", &["3: auth.function: is named, and query is false"]),
        ("[auth]\nquery = \"yes\"", &["2: auth.query: must be a boolean"]),
        ("[auth]\ncache_size = 0", &["2: auth.cache_size: at least 1"]),
        ("[control]\npassword = { env = \"ABSENT\" }", &["2: control.password.env: ABSENT is not set"]),
        (
            "[control]\npassword = \"md50123456789abcdef0123456789abcdef\"",
            &["2: control.password: is a hash"],
        ),
        ("[listen]\nlogin_timeout = \"2 fortnights\"", &["2: listen.login_timeout: not a unit of time"]),
        ("[listen]\nruntime_dir = \"\"", &["2: listen.runtime_dir: must not be empty"]),
        ("[tcp]\nkeepalive_idle = \"1500ms\"", &["2: tcp.keepalive_idle: must be whole seconds"]),
        ("[tcp]\nkeepalive_interval = \"1d\"", &["2: tcp.keepalive_interval: must be whole seconds"]),
        ("[tcp]\nkeepalive_count = 128", &["2: tcp.keepalive_count: must be at most 127"]),
        ("[listen]\ntls_key = 3", &["2: listen.tls_key: must be a string"]),
        (
            "[listen]\ntls = \"require\"",
            &[
                "1: listen.tls_certificate: is missing; set tls to \"disable\"",
                "1: listen.tls_key: is missing; set tls to \"disable\"",
            ],
        ),
    ] {
        check_with_rest(text, expected);
    }
}

#[test]
fn unknown_keys() {
    for (text, expected) in [
        ("[pool]\nsise = 3", &["2: pool.sise: is not a key of [pool]; did you mean \"size\"?"][..]),
        ("[pol]\nsize = 3", &["1: pol: is not a key of the top of the file; did you mean \"pool\"?"]),
        ("max_clients = 3", &["1: max_clients: is not a key; did you mean \"listen.max_clients\""]),
        ("[listen]\nfailures = 3", &["2: listen.failures: is not a key; did you mean \"health.failures\""]),
        ("[pool]\ncolour = 3", &["2: pool.colour: is not a key of [pool]; remove it"]),
        ("pool.sise = 3", &["1: pool.sise: is not a key of [pool]; did you mean \"size\"?"]),
        (
            "[control]\npassword = { enf = \"PASSWORD\" }",
            &[
                "2: control.password: names no source; { env = \"NAME\" }",
                "2: control.password.enf: is not a key of [control.password]; did you mean \"env\"?",
            ],
        ),
    ] {
        check_with_rest(text, expected);
    }
}

#[test]
fn what_is_not_there() {
    check("", &["-: database: is missing; [[database]]", "-: user: is missing; [[user]]"]);
    check(
        "[[user]]\n\n[[database]]\n\n[[database.shard]]\n",
        &[
            "1: user[0].name: is missing",
            "1: user[0].password: is missing",
            "3: database[0].name: is missing",
            "5: database[0].shard[0].endpoints: must name at least one server",
            "5: database[0].shard[0].name: is missing",
        ],
    );
    check("user = []\ndatabase = []", &["1: user: is missing", "2: database: is missing"]);
    check_database(
        "[[database]]\nname = \"shop\"",
        &["4: database[0].shard: is missing; [[database.shard]]"],
    );
    check(
        "[user]\nname = \"app\"\n[database]\nname = \"shop\"",
        &[
            "1: user: must be a list of tables, not a table; [[user]]",
            "3: database: must be a list of tables, not a table; [[database]]",
        ],
    );
}

#[test]
fn users() {
    let database = "[[database]]\nname = \"d\"\n[[database.shard]]\nname = \"s\"\nendpoints = [\"h\"]";
    let verifier = "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let user = |rest: &str| format!("[[user]]\nname = \"app\"\n{rest}\n{database}");
    for (text, expected) in [
        (user("password = \"\""), &["3: user[0].password: must not be empty"][..]),
        (user("password = 5"), &["3: user[0].password: must be a string or a table"]),
        (user("password = \"a\\u0000b\""), &["3: user[0].password: contains a NUL"]),
        (user("password = { env = \"ABSENT\" }"), &["3: user[0].password.env: ABSENT is not set"]),
        (user("password = { env = \"EMPTY\" }"), &["3: user[0].password: must not be empty"]),
        (user("password = { env = 5 }"), &["3: user[0].password.env: must be a string"]),
        (
            user("password = { file = \"no/such\" }"),
            &["3: user[0].password.file: /etc/pgring/no/such cannot be read"],
        ),
        (user("password = { env = \"A\", file = \"b\" }"), &["3: user[0].password: has two sources"]),
        (user("password = \"SCRAM-SHA-256$4096:x\""), &["3: user[0].password: begins like a SCRAM verifier"]),
        (
            user(&format!("password = \"x\"\nserver_password = \"{verifier}\"")),
            &["4: user[0].server_password: is a hash"],
        ),
        (
            user("password = \"x\"\n[[user]]\nname = \"app\"\npassword = \"y\""),
            &["5: user[1].name: \"app\" is already a user's name on line 2"],
        ),
        (
            user("password = \"x\"\n[[user]]\nname = \"\"\npassword = \"y\""),
            &["5: user[1].name: must not be empty"],
        ),
    ] {
        check(&text, expected);
    }
    let settings = good(&user(&format!("password = \"{verifier}\"\nserver_password = \"\"")));
    assert_eq!(settings.users[0].server_password, Some(Secret::new("")));
}

#[test]
fn databases() {
    let two = "[[database.shard]]\nname = \"s1\"\nendpoints = [\"a\"]\n[[database.shard]]\nname = \"s2\"\nendpoints = [\"b\"]";
    let with = |keys: &str| format!("[[database]]\nname = \"shop\"\n{keys}\n{two}");
    let shards = |shards: &str| format!("[[database]]\nname = \"shop\"\nkey = \"id\"\n{shards}");
    for (text, expected) in [
        (with(""), &["4: database[0].key: is missing, and the database has 2 shards; key = \"user_id\""][..]),
        (with("key = 3"), &["6: database[0].key: must be a string"]),
        (
            with("key = \"id\"\nhome = \"s3\""),
            &["7: database[0].home: \"s3\" is no shard of this database; \"s1\", \"s2\""],
        ),
        (with("key = \"id\"\nvirtual_nodes = 0"), &["7: database[0].virtual_nodes: must be at least 1"]),
        (
            with("key = \"id\"\nvirtual_nodes = 65537"),
            &["7: database[0].virtual_nodes: must be at most 65536"],
        ),
        (
            with("key = \"id\"\n[[database.table]]\nname = \"t\""),
            &["7: database[0].table[0].key: is missing; reference = true"],
        ),
        (
            with("key = \"id\"\n[[database.table]]\nname = \"t\"\nkey = \"k\"\nreference = true"),
            &["10: database[0].table[0].reference: no key; remove"],
        ),
        (
            with(
                "key = \"id\"\n[[database.table]]\nname = \"a.b.c\"\nkey = \"k\"\n[[database.table]]\nname = \".b\"\nkey = \"k\"",
            ),
            &[
                "8: database[0].table[0].name: is not a table's name; schema.table",
                "11: database[0].table[1].name: must not be empty",
            ],
        ),
        (
            with(
                "key = \"id\"\n[[database.table]]\nname = \"t\"\nkey = \"k\"\n[[database.table]]\nname = \"t\"\nreference = true",
            ),
            &["11: database[0].table[1].name: already a table's name on line 8"],
        ),
        (
            format!("{}\n{}", with("key = \"id\""), with("key = \"id\"")),
            &["14: database[1].name: \"shop\" is already a database's name on line 5"],
        ),
        (
            with("key = \"id\"").replace("shop", "pgring"),
            &["5: database[0].name: \"pgring\" is the console's name; another"],
        ),
        (
            shards(
                "[[database.shard]]\nname = \"s1\"\nendpoints = [\"a\"]\n[[database.shard]]\nname = \"s1\"\nendpoints = [\"b\"]",
            ),
            &["11: database[0].shard[1].name: \"s1\" is already a shard's name on line 8"],
        ),
        (
            shards("[[database.shard]]\nname = \"s1\"\nendpoints = [\"a\", \"A:5432\"]"),
            &["9: database[0].shard[0].endpoints[1]: already an endpoint with the same dbname on line 9"],
        ),
        (
            shards("[[database.shard]]\nname = \"s1\"\nendpoints = [\"a\"]\nanalytics = [\"a\"]"),
            &["10: database[0].shard[0].analytics[0]: already an endpoint"],
        ),
        (
            shards(
                "[[database.shard]]\nname = \"s1\"\nendpoints = [\"a\"]\n[[database.shard]]\nname = \"s2\"\nendpoints = [\"a\"]",
            ),
            &["12: database[0].shard[1].endpoints[0]: already an endpoint"],
        ),
        (
            shards("[[database.shard]]\nname = \"All\"\nweight = 0\nendpoints = []\ntls = \"verify\""),
            &[
                "8: database[0].shard[0].name: stands for every shard in hints",
                "9: database[0].shard[0].weight: must be at least 1",
                "10: database[0].shard[0].endpoints: must name at least one server",
                "11: database[0].shard[0].tls: none of its values; \"verify-full\"",
            ],
        ),
        (
            shards(
                "[[database.shard]]\nname = \"s#1\"\nweight = 1001\nendpoints = [\"h:0\", \"::1\"]\ntls_ca = \"absent.crt\"",
            ),
            &[
                "8: database[0].shard[0].name: must not contain '#'",
                "9: database[0].shard[0].weight: must be at most 1000",
                "10: database[0].shard[0].endpoints[0]: is not a port",
                "10: database[0].shard[0].endpoints[1]: may or may not; \"[::1]:5432\"",
                "11: database[0].shard[0].tls_ca: /etc/pgring/absent.crt cannot be read",
            ],
        ),
        (
            shards(
                "virtual_nodes = 65536\n[[database.shard]]\nname = \"s1\"\nweight = 65\nendpoints = [\"a\"]",
            ),
            &["7: database[0].virtual_nodes: times the sum of the weights, 65"],
        ),
    ] {
        check_database(&text, expected);
    }
    let one_server = shards(
        "[[database.shard]]\nname = \"s1\"\ndbname = \"d1\"\nendpoints = [\"a\"]\n[[database.shard]]\nname = \"s2\"\ndbname = \"d2\"\nendpoints = [\"a\"]",
    );
    let settings = good(&format!("[[user]]\nname = \"app\"\npassword = \"secret\"\n{one_server}"));
    assert_eq!(settings.databases[0].weights(), [("s1".to_owned(), 1), ("s2".to_owned(), 1)]);
}

#[test]
fn everything_is_said_at_once_in_the_order_of_lines() {
    check(
        r#"cluster = ""
[listen]
address = "localhost"
colour = 1
[pool]
size = "many"
idle_timeout = "5 parsecs"
[[user]]
name = "app"
[[database]]
name = "pgring"
home = "s9"
[[database.shard]]
name = "s1"
endpoints = ["x:y"]
[[database.shard]]
name = "s1"
"#,
        &[
            "1: cluster: must not be empty",
            "3: listen.address: not an IP",
            "4: listen.colour: is not a key",
            "6: pool.size: must be a whole number",
            "7: pool.idle_timeout: not a unit of time",
            "8: user[0].password: is missing",
            "10: database[0].key: is missing",
            "11: database[0].name: the console's name",
            "12: database[0].home: is no shard",
            "15: database[0].shard[0].endpoints[0]: is not a port",
            "16: database[0].shard[1].endpoints: at least one",
            "17: database[0].shard[1].name: already a shard's name on line 14",
        ],
    );
}

#[test]
fn broken_syntax() {
    check("[pool\nsize = 3", &["1: : is not TOML: unclosed table"]);
    check("[pool]\nsize = 3 4\n\nmode = \n[listen]", &["2: : is not TOML", "4: : is not TOML"]);
    check("[pool]\nsize = 3\nsize = 4", &["3: : is not TOML: duplicate key"]);
    check("[pool]\nsize = 3\n[pool]", &["3: : is not TOML: duplicate key"]);
}

#[test]
fn how_a_problem_is_shown() {
    let text = format!("[pool]\nsize = 0\n{REST}");
    let problems = parse_at(&text, Path::new("conf/pgring.toml")).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "conf/pgring.toml:2: pool.size: must be at least 1; set it to a number from 1 to 100000"
    );
    let problems = parse_at("", Path::new("pgring.toml")).unwrap_err();
    assert!(problems.to_string().starts_with("pgring.toml: database: is missing; add "), "{problems}");
    let problems = parse_at("x", Path::new("pgring.toml")).unwrap_err();
    assert!(problems.to_string().starts_with("pgring.toml:1: is not TOML: "), "{problems}");
}

#[test]
fn secrets_are_never_said() {
    for value in ["\"SCRAM-SHA-256$hidden\"", "[\"hidden\"]", "\"hidden\\u0000\"", "{ hidden = 1 }"] {
        let text = format!("[[user]]\nname = \"app\"\npassword = {value}\n");
        let problems = parse_at(&text, Path::new("pgring.toml")).unwrap_err();
        let said: Vec<&Problem> =
            problems.0.iter().filter(|problem| problem.key == "user[0].password").collect();
        assert!(
            !said.is_empty() && said.iter().all(|problem| !problem.message.contains("hidden")),
            "{problems}"
        );
    }
    let secret = Secret::new("hidden");
    assert_eq!((format!("{secret}"), format!("{secret:?}")), ("***".into(), "***".into()));
}

proptest::proptest! {
    /// A damaged file is refused or understood, whatever the damage.
    #[test]
    fn no_damage_is_a_panic(at in 0..SAMPLE.len(), length in 0..200_usize, put in "[a-z0-9=\\[\\]{}\"'#.,\\n -]{0,12}") {
        let end = (at + length).min(SAMPLE.len());
        let damaged = [&SAMPLE.as_bytes()[..at], put.as_bytes(), &SAMPLE.as_bytes()[end..]].concat();
        if let Err(Problems(problems)) = parse_at(&String::from_utf8_lossy(&damaged), Path::new("pgring.toml")) {
            proptest::prop_assert!(!problems.is_empty());
        }
    }
}
