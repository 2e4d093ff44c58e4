//! Finding the frames in what a read brought: what each message pays, in both directions.

use criterion::{Criterion, Throughput};
use pgring::wire::{self, Buffer};
use std::hint::black_box;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    scan(&mut criterion);
    fields(&mut criterion);
    buffer(&mut criterion);
    criterion.final_summary();
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).expect("benchmarks' frames are small");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// A row of one `integer` in text.
fn row() -> Vec<u8> {
    frame(b'D', b"\0\x01\0\0\0\x01\x30")
}

/// What a server answers pgbench's `SELECT abalance …` with.
fn point_answer() -> Vec<u8> {
    let description = b"\0\x01abalance\0\0\0\x40\x01\0\x03\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    [frame(b'T', description), row(), frame(b'C', b"SELECT 1\0"), frame(b'Z', b"I")].concat()
}

/// One read's worth of rows of 100 bytes.
fn rows() -> Vec<u8> {
    let body = [&b"\0\x01\0\0\0\x59"[..], &[b'x'; 89]].concat();
    frame(b'D', &body).repeat(160)
}

fn parse_message() -> Vec<u8> {
    frame(b'P', b"P_0\0SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0")
}

fn bind_message() -> Vec<u8> {
    frame(b'B', b"\0P_0\0\0\0\0\x01\0\0\0\x06123456\0\0")
}

/// What a driver sends for one prepared statement's execution.
fn pipeline() -> Vec<u8> {
    [parse_message(), bind_message(), frame(b'D', b"P\0"), frame(b'E', b"\0\0\0\0\0"), frame(b'S', b"")]
        .concat()
}

/// From header to header, as the relay does; how many frames there were.
fn walk(mut bytes: &[u8], header: impl Fn(&[u8]) -> Result<Option<wire::Header>, wire::FrameError>) -> usize {
    let mut frames = 0;
    while let Ok(Some(head)) = header(bytes) {
        frames += usize::from(head.tag != b'Z');
        bytes = bytes.get(head.len..).unwrap_or_default();
    }
    frames
}

fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    for (name, bytes) in [("answer of a point query", point_answer()), ("160 rows of 100 bytes", rows())] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| walk(black_box(&bytes), wire::header)));
    }
    let bytes = pipeline();
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("client's pipeline", |b| b.iter(|| walk(black_box(&bytes), wire::client_header)));
    group.finish();
}

fn fields(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    let parse = parse_message();
    group.bench_function("Parse", |b| {
        b.iter(|| wire::Parse::read(black_box(&parse[wire::HEADER_LEN..])).is_ok())
    });
    let bind = bind_message();
    group.bench_function("Bind's names", |b| {
        b.iter(|| wire::BindNames::read(black_box(&bind[wire::HEADER_LEN..])).is_ok());
    });
    group.finish();
}

/// Memory comes with the bytes and goes with them; that must not cost an allocation each time.
fn buffer(criterion: &mut Criterion) {
    let answer = point_answer();
    let mut buffer = Buffer::new();
    criterion.bench_function("fill and empty a buffer", |b| {
        b.iter(|| {
            buffer.put(black_box(&answer));
            buffer.consume(buffer.len());
        });
    });
}
