//! From a key's value to the shard that owns it: what each routed statement pays last.

use criterion::{BenchmarkId, Criterion};
use pgring::ring::{Key, ShardId, Topology};
use std::hint::black_box;

const VIRTUAL_NODES: u32 = 1024;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    hash(&mut criterion);
    owner(&mut criterion);
    build(&mut criterion);
    criterion.final_summary();
}

fn topology(shards: u32) -> Topology {
    let names: Vec<(String, u32)> = (1..=shards).map(|n| (format!("s{n}"), 1)).collect();
    Topology::new(&names, VIRTUAL_NODES, ShardId(0))
}

fn hash(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash");
    group.bench_function("integer", |b| b.iter(|| black_box(Key::Integer(black_box(4_711))).hash()));
    group.bench_function("uuid", |b| b.iter(|| black_box(Key::Uuid(black_box([7; 16]))).hash()));
    group.bench_function("text of 36 bytes", |b| {
        b.iter(|| black_box(Key::Text(black_box(b"7f0c5a54-1d3e-4c2b-9a39-0d5b8e2f6a11"))).hash());
    });
    group.finish();
}

fn owner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("owner");
    for shards in [3, 64] {
        let topology = topology(shards);
        // Keys that walk over the ring, so that no cache line of it stays hot by itself.
        let mut key = 0i64;
        group.bench_function(BenchmarkId::new("of an integer", shards), |b| {
            b.iter(|| {
                key = key.wrapping_add(1);
                topology.owner(Key::Integer(key).hash())
            });
        });
    }
    group.finish();
}

/// Not on a statement's path, but a reload waits for it.
fn build(criterion: &mut Criterion) {
    criterion.bench_function("build a topology of 3 shards", |b| b.iter(|| topology(black_box(3))));
}
