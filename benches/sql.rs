//! A statement's text on its way to a shard. A hit (lex, look up, route) is what nearly every
//! statement pays; a miss (the full analysis) what a program pays once a distinct text.

use criterion::{BatchSize, Criterion, Throughput};
use pgring::ring::{ShardId, Topology};
use pgring::route::{Parameters, Request, Route, SessionHints, route};
use pgring::sql::{Context, KeyType, Lexed, PlanCache, Schema, Table, TableKind, analyze};
use std::hint::black_box;
use std::rc::Rc;

/// (what, text, whether its key is `$1`).
const STATEMENTS: [(&str, &str, bool); 4] = [
    ("point, literal", "SELECT abalance FROM pgbench_accounts WHERE aid = 123456;", false),
    ("point, parameter", "SELECT abalance FROM pgbench_accounts WHERE aid = $1;", true),
    (
        "insert",
        "INSERT INTO job_executions (id, user_id, job_id, status, started_at, output) \
         VALUES (1001, 42, 77, 'succeeded', '2024-05-01 12:00:00+00', 'all of 17 steps done') RETURNING id",
        false,
    ),
    (
        "join",
        "SELECT j.id, j.name, e.status, e.started_at FROM jobs AS j JOIN job_executions AS e \
         ON e.user_id = j.user_id AND e.job_id = j.id WHERE j.user_id = 42 AND e.status IN ('failed', 'lost') \
         ORDER BY e.started_at DESC LIMIT 20",
        false,
    ),
];

/// The body of pgbench's Bind after its two names: no formats, one parameter in text.
const BIND: &[u8] = b"\0\0\0\x01\0\0\0\x06123456\0\0";

const CONTEXT: u64 = 1;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    lex(&mut criterion);
    hit(&mut criterion);
    miss(&mut criterion);
    long(&mut criterion);
    criterion.final_summary();
}

fn schema() -> Schema {
    let table = |name: &str, columns: &[&str], key: usize| Table {
        detail: pgring::sql::TableDetail::default(),
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        kind: TableKind::Sharded { key, key_type: KeyType::Integer },
    };
    let tables = vec![
        table("pgbench_accounts", &["aid", "bid", "abalance", "filler"], 0),
        table("jobs", &["id", "user_id", "name", "schedule"], 1),
        table("job_executions", &["id", "user_id", "job_id", "status", "started_at", "output"], 1),
    ];
    Schema::new(1, tables, Vec::new())
}

fn topology() -> Topology {
    Topology::new(&["s1", "s2", "s3"].map(|name| (name.to_owned(), 1)), 1024, ShardId(0))
}

fn with_context<T>(run: impl FnOnce(&Context<'_>) -> T) -> T {
    let schema = schema();
    let search_path = ["public".to_owned()];
    run(&Context {
        schema: &schema,
        search_path: &search_path,
        standard_conforming_strings: true,
        default_key: "user_id",
        unknown: &std::cell::Cell::new(false),
    })
}

fn lexed(text: &str) -> Lexed {
    let mut lexed = Lexed::default();
    lexed.lex(text.as_bytes(), true).expect("the benchmarks' statements are well-formed");
    lexed
}

fn lex(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lex");
    for (name, text, _) in STATEMENTS {
        let mut scratch = Lexed::default();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(|| scratch.lex(black_box(text.as_bytes()), true).is_ok()));
    }
    group.finish();
}

fn hit(criterion: &mut Criterion) {
    let topology = topology();
    let session_hints = SessionHints::default();
    let mut cache = PlanCache::new(PlanCache::DEFAULT_BYTES);
    with_context(|context| {
        for (_, text, _) in STATEMENTS {
            let lexed = lexed(text);
            cache.insert(&lexed, CONTEXT, Rc::new(analyze(text.as_bytes(), &lexed, context)));
        }
    });
    let mut group = criterion.benchmark_group("hit");
    for (name, text, bound) in STATEMENTS {
        let mut scratch = Lexed::default();
        group.bench_function(name, |b| {
            b.iter(|| {
                let text = black_box(text.as_bytes());
                scratch.lex(text, true).expect("the benchmarks' statements are well-formed");
                let shape = cache.lookup(&scratch, CONTEXT).expect("it was put in above");
                let parameters = if bound {
                    Parameters::parse(black_box(BIND), &[]).expect("a Bind as pgbench sends it")
                } else {
                    Parameters::none()
                };
                let request = Request {
                    shape: &shape,
                    text,
                    lexed: &scratch,
                    parameters: &parameters,
                    topology: &topology,
                    key_type: KeyType::Integer,
                    same_encoding: true,
                    session_hints: &session_hints,
                    transaction_shard: None,
                };
                let route = route(&request).route;
                // Anything else would be the time of another decision.
                assert!(matches!(route, Route::Shard(_)), "{name}: {route:?}");
            });
        });
    }
    group.finish();
}

fn miss(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("miss");
    with_context(|context| {
        for (name, text, _) in STATEMENTS {
            group.bench_function(name, |b| {
                b.iter_batched_ref(
                    || PlanCache::new(PlanCache::DEFAULT_BYTES),
                    |cache| {
                        let lexed = lexed(black_box(text));
                        cache.insert(&lexed, CONTEXT, Rc::new(analyze(text.as_bytes(), &lexed, context)));
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    });
    group.finish();
}

/// A miss takes time linear in the text: ten times the list, ten times the time.
fn long(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("miss, IN list");
    group.sample_size(10);
    with_context(|context| {
        for count in [1_000, 10_000, 100_000] {
            let list: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            let text = format!("SELECT abalance FROM pgbench_accounts WHERE aid IN ({})", list.join(", "));
            group.throughput(Throughput::Elements(count));
            group.bench_function(count.to_string(), |b| {
                b.iter(|| {
                    let lexed = lexed(black_box(&text));
                    analyze(text.as_bytes(), &lexed, context)
                });
            });
        }
    });
    group.finish();
}
