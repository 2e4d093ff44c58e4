//! Streams, what they are cut into, and that it does not matter how they come.

use proptest::prelude::*;

use super::{CopyFault, CopyOutMerger, LineMap, Part, Splitter};
use crate::sql::KeyType;
use crate::sql::distribute::{CopyFormat, CopyIn, CopyKey, CopyKind};

const LONGEST: usize = 1 << 20;

fn copy(kind: CopyKind, field: usize, fields: usize) -> CopyIn {
    let csv = kind == CopyKind::Csv;
    CopyIn {
        sql: String::new(),
        table: "jobs".to_owned(),
        column: "user_id".to_owned(),
        fields,
        key: Some(CopyKey { field, key_type: KeyType::Text, never_null: false, null_in_quotes: false }),
        timed: false,
        format: CopyFormat {
            kind,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { Vec::new() } else { b"\\N".to_vec() },
            default: None,
            header: false,
            quote: b'"',
            escape: b'"',
        },
    }
}

type Row = (Vec<u8>, Option<Vec<u8>>, u64, u32);

/// The records and what goes to everyone, which has no line.
fn cut(copy: &CopyIn, portions: &[&[u8]]) -> Result<Vec<Row>, CopyFault> {
    let mut splitter = Splitter::new(copy, LONGEST);
    let mut rows = Vec::new();
    let mut take = |part: Part<'_>| -> Result<(), CopyFault> {
        rows.push(match part {
            Part::Everyone { bytes, lines } => (bytes.to_vec(), None, 0, lines),
            Part::Record(record) => {
                (record.bytes.to_vec(), record.key.map(<[u8]>::to_vec), record.line, record.lines)
            }
        });
        Ok(())
    };
    for portion in portions {
        splitter.feed(portion, &mut take)?;
    }
    splitter.finish(&mut take)?;
    Ok(rows)
}

fn shown(outcome: Result<Vec<Row>, CopyFault>) -> String {
    match outcome {
        Err(fault) => format!("error: {fault}"),
        Ok(rows) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
            let row = |(bytes, key, line, lines): &Row| match key {
                None if *line == 0 => format!("all {}", text(bytes)),
                None => format!("{line}+{lines} {}", text(bytes)),
                Some(key) => format!("{line}+{lines} {} @{}", text(bytes), text(key)),
            };
            rows.iter().map(row).collect::<Vec<_>>().join(" | ")
        }
    }
}

/// Whole, byte by byte, and cut in two everywhere.
fn check(copy: &CopyIn, rows: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (stream, expect, why) in rows {
        let stream = stream.as_bytes();
        let mut ways: Vec<Vec<&[u8]>> = vec![vec![stream], stream.chunks(1).collect()];
        ways.extend((0..stream.len()).map(|at| vec![&stream[..at], &stream[at..]]));
        for portions in ways {
            let found = shown(cut(copy, &portions));
            if found != *expect {
                let stream = String::from_utf8_lossy(stream).escape_debug().to_string();
                wrong.push(format!(
                    "{stream} ({} portions)\n    found   {found}\n    expects {expect}\n    because {why}",
                    portions.len()
                ));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn text() {
    check(
        &copy(CopyKind::Text, 1, 3),
        &[
            ("", "", "nothing"),
            ("1\t7\ta\n2\t8\tb\n", "1+1 1\\t7\\ta\\n @7 | 2+1 2\\t8\\tb\\n @8", "two lines"),
            ("1\t7\ta\n2\t8\tb", "1+1 1\\t7\\ta\\n @7 | 2+1 2\\t8\\tb @8", "the last one is not ended"),
            ("1\t7\r\n2\t8\r\n", "1+1 1\\t7\\r\\n @7 | 2+1 2\\t8\\r\\n @8", "two bytes end a line"),
            ("1\t7\r2\t8\r", "1+1 1\\t7\\r @7 | 2+1 2\\t8\\r @8", "a carriage return ends a line"),
            ("1\t7\n2\t8\r\n", "error: literal carriage return found in data", "another style"),
            ("1\t7\r\n2\t8\n", "error: literal newline found in data", "another style"),
            ("1\t7\r2\t8\n", "error: literal newline found in data", "another style"),
            ("1\t7\r\n2\t8\rx\r\n", "error: literal carriage return found in data", "another style"),
            (
                "1\ta\\tb\\n\\\\\\x41\\101\\q\tz\n",
                "1+1 1\\ta\\\\tb\\\\n\\\\\\\\\\\\x41\\\\101\\\\q\\tz\\n @a\\tb\\n\\\\AAq",
                "escapes",
            ),
            ("a\\\tb\t7\n", "1+1 a\\\\\\tb\\t7\\n @7", "an escaped delimiter"),
            ("a\\\nb\t7\n2\t8\n", "1+1 a\\\\\\nb\\t7\\n @7 | 2+1 2\\t8\\n @8", "an escaped newline"),
            ("1\t7\n\\.\nwhatever", "1+1 1\\t7\\n @7", "the end is marked"),
            ("1\t7\r\n\\.\r\n", "1+1 1\\t7\\r\\n @7", "the end is marked"),
            (
                "1\t7\r\n\\.\n",
                "error: end-of-copy marker does not match previous newline style",
                "another style",
            ),
            (
                "1\t7\n\\.\r\n",
                "error: end-of-copy marker does not match previous newline style",
                "another style",
            ),
            ("1\t7\n\\.x\n", "error: end-of-copy marker corrupt", "more behind it"),
            ("1\t7\n\\.", "error: end-of-copy marker corrupt", "nothing behind it"),
            ("1\t7\\.\n", "error: end-of-copy marker is not alone on its line", "more before it"),
            ("1\t\\\\.\n", "1+1 1\\t\\\\\\\\.\\n @\\\\.", "a backslash and a dot"),
            ("1\t\\N\n", "error: the key, column \"user_id\", cannot be NULL", "no owner"),
            ("1\t\\\\N\n", "1+1 1\\t\\\\\\\\N\\n @\\\\N", "a text that looks like it"),
            ("1\n", "error: missing data for column \"user_id\"", "too short"),
            ("\n", "error: missing data for column \"user_id\"", "empty"),
            ("1\t\ta\n", "1+1 1\\t\\ta\\n @", "an empty text"),
            ("1\t7\\", "1+1 1\\t7\\\\ @7", "a backslash at the end of all data is nothing"),
        ],
    );
}

#[test]
fn csv() {
    check(
        &copy(CopyKind::Csv, 1, 3),
        &[
            ("1,7,a\n2,8,b\n", "1+1 1,7,a\\n @7 | 2+1 2,8,b\\n @8", "two lines"),
            ("1,\"7\",a\n", "1+1 1,\\\"7\\\",a\\n @7", "quotes"),
            ("\"a,b\",7\n", "1+1 \\\"a,b\\\",7\\n @7", "a quoted delimiter"),
            (
                "1,7,\"a\nb\n\"\n2,8\n",
                "1+1 1,7,\\\"a\\nb\\n\\\"\\n @7 | 2+1 2,8\\n @8",
                "carriage returns are counted until a line has ended",
            ),
            (
                "1,7\n2,8,\"a\nb\n\"\n3,9\n",
                "1+1 1,7\\n @7 | 2+3 2,8,\\\"a\\nb\\n\\\"\\n @8 | 5+1 3,9\\n @9",
                "lines in quotes",
            ),
            ("1,\"a\"\"b\"\n", "1+1 1,\\\"a\\\"\\\"b\\\"\\n @a\\\"b", "a doubled quote"),
            ("1,x\"y,z\"w\n", "1+1 1,x\\\"y,z\\\"w\\n @xy,zw", "quotes within a field"),
            ("1,\"\"\n", "1+1 1,\\\"\\\"\\n @", "an empty text"),
            ("1,\n", "error: the key, column \"user_id\", cannot be NULL", "NULL"),
            ("1,\"7\n", "error: unterminated CSV quoted field", "no end"),
            ("1,7\n\\.\n", "1+1 1,7\\n @7", "the end is marked"),
            ("1,7\r\n\\.\r\n", "1+1 1,7\\r\\n @7", "the end is marked"),
            ("1,7\n\\.\n2,8\n", "error: data after the end-of-copy marker", "not all versions end there"),
            ("1,7\n\\.,8\n", "1+1 1,7\\n @7 | 2+1 \\\\.,8\\n @8", "data"),
            ("1,7\r\n2,8\n", "error: unquoted newline found in data", "another style"),
            ("1,7\n2,8\r\n", "error: unquoted carriage return found in data", "another style"),
            ("1,7\r2,8\r", "1+1 1,7\\r @7 | 2+1 2,8\\r @8", "a carriage return ends a line"),
            ("1\n", "error: missing data for column \"user_id\"", "too short"),
        ],
    );
    let mut escaped = copy(CopyKind::Csv, 1, 2);
    escaped.format.escape = b'\\';
    escaped.format.header = true;
    check(
        &escaped,
        &[
            (
                "id,\"user\nid\"\n1,\"a\\\"\\\\b\\c\"\n",
                "all id,\\\"user\\nid\\\"\\n | 2+1 1,\\\"a\\\\\\\"\\\\\\\\b\\\\c\\\"\\n @a\\\"\\\\b\\\\c",
                "an escape of its own, and a header",
            ),
            (
                "1,\"a\\\\\"\n2,\"\\\"\n\"\n",
                "all 1,\\\"a\\\\\\\\\\\"\\n | 2+2 2,\\\"\\\\\\\"\\n\\\"\\n @\\\"\\n",
                "escaped escapes and quotes",
            ),
        ],
    );
    let mut forced = copy(CopyKind::Csv, 1, 2);
    forced.key = forced.key.map(|key| CopyKey { never_null: true, ..key });
    check(&forced, &[("1,\n", "1+1 1,\\n @", "FORCE_NOT_NULL")]);
    forced.key = forced.key.map(|key| CopyKey { never_null: false, null_in_quotes: true, ..key });
    check(&forced, &[("1,\"\"\n", "error: the key, column \"user_id\", cannot be NULL", "FORCE_NULL")]);
    forced.format.default = Some(b"\\D".to_vec());
    check(
        &forced,
        &[("1,\\D\n", "error: the key, column \"user_id\", cannot be left to its default", "DEFAULT")],
    );
}

#[test]
fn reference_tables_have_no_key() {
    let mut all = copy(CopyKind::Text, 0, 1);
    all.key = None;
    check(&all, &[("a\nnow\n", "1+1 a\\n | 2+1 now\\n", "each row goes to every shard")]);
    all.timed = true;
    check(
        &all,
        &[("a\nnow\n", "error: a word like \"now\" would be another value on each shard", "a clock's word")],
    );
}

fn binary(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
    let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        stream.extend(i16::try_from(row.len()).unwrap().to_be_bytes());
        for field in row {
            match field {
                None => stream.extend((-1i32).to_be_bytes()),
                Some(value) => {
                    stream.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                    stream.extend(value);
                }
            }
        }
    }
    stream
}

#[test]
fn binary_streams() {
    let copy = copy(CopyKind::Binary, 1, 2);
    let good = binary(&[vec![None, Some(b"ab".to_vec())], vec![Some(Vec::new()), Some(b"c".to_vec())]]);
    for with_end in [false, true] {
        let mut stream = good.clone();
        if with_end {
            stream.extend([0xff, 0xff]);
        }
        let rows = cut(&copy, &[&stream]).unwrap();
        assert_eq!(rows.len(), 3 + usize::from(with_end));
        assert_eq!(rows[0].0, &good[..19]);
        assert_eq!((rows[1].1.as_deref(), rows[1].2), (Some(b"ab".as_slice()), 1));
        assert_eq!((rows[2].1.as_deref(), rows[2].2), (Some(b"c".as_slice()), 2));
        assert_eq!(rows.iter().flat_map(|row| row.0.clone()).collect::<Vec<u8>>(), stream);
        assert_eq!(cut(&copy, &stream.chunks(1).collect::<Vec<_>>()).unwrap(), rows);
    }
    let fails = |stream: &[u8]| shown(cut(&copy, &[stream]));
    assert_eq!(fails(b""), "error: COPY file signature not recognized");
    assert_eq!(fails(b"PGCOPZ"), "error: COPY file signature not recognized");
    assert_eq!(fails(b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0"), "error: invalid COPY file header");
    assert_eq!(fails(b"PGCOPY\n\xff\r\n\0\0\0\0\0\xff\xff\xff\xff"), "error: invalid COPY file header");
    assert_eq!(fails(&good[..good.len() - 1]), "error: unexpected EOF in COPY data");
    assert_eq!(fails(&[&good[..19], &[0, 3]].concat()), "error: row field count is 3, expected 2");
    assert_eq!(fails(&[&good[..19], &[0, 2, 0x80, 0, 0, 0]].concat()), "error: invalid field size");
    assert_eq!(
        fails(&[&good[..19], &[0, 2, 0x7f, 0xff, 0xff, 0xff]].concat()),
        format!("error: a record is longer than {LONGEST} bytes")
    );
    assert_eq!(fails(&[&good[..], &[0xff, 0xff, 0]].concat()), "error: received copy data after EOF marker");
    assert_eq!(fails(&binary(&[vec![None, None]])), "error: the key, column \"user_id\", cannot be NULL");
}

#[test]
fn a_record_is_held_up_to_the_limit() {
    let mut splitter = Splitter::new(&copy(CopyKind::Csv, 0, 1), 1000);
    let mut take = |_: Part<'_>| -> Result<(), CopyFault> { Ok(()) };
    let fed: Result<(), CopyFault> = (0..200).try_for_each(|_| splitter.feed(b"\"aaaaaaaaa", &mut take));
    assert_eq!(fed, Err(CopyFault::TooLong { line: 1, bytes: 1000 }));
}

#[test]
fn long_records_take_linear_time() {
    let mut splitter = Splitter::new(&copy(CopyKind::Csv, 0, 1), 1 << 30);
    let mut records = 0;
    let mut take = |_: Part<'_>| -> Result<(), CopyFault> {
        records += 1;
        Ok(())
    };
    splitter.feed(b"\"", &mut take).unwrap();
    for _ in 0..20_000 {
        splitter.feed(&[b'a'; 1000], &mut take).unwrap();
    }
    splitter.feed(b"\"\n", &mut take).unwrap();
    assert_eq!(records, 1);
}

fn as_text(rows: &[Vec<Option<String>>]) -> String {
    let field = |field: &Option<String>| match field {
        None => "\\N".to_owned(),
        Some(value) => value
            .chars()
            .map(|character| match character {
                '\\' => "\\\\".to_owned(),
                '\t' => "\\t".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                other => other.to_string(),
            })
            .collect(),
    };
    rows.iter().map(|row| row.iter().map(field).collect::<Vec<_>>().join("\t") + "\n").collect()
}

fn as_csv(rows: &[Vec<Option<String>>]) -> String {
    let field = |field: &Option<String>| match field {
        None => String::new(),
        Some(value) if value.is_empty() || value.contains([',', '"', '\n', '\r', '\\']) => {
            format!("\"{}\"", value.replace('"', "\"\""))
        }
        Some(value) => value.clone(),
    };
    rows.iter().map(|row| row.iter().map(field).collect::<Vec<_>>().join(",") + "\r\n").collect()
}

fn rows() -> impl Strategy<Value = Vec<Vec<Option<String>>>> {
    let value = || prop::string::string_regex("[a-c,\"\\\\\t\n\r.Nx0é]{0,12}").unwrap();
    let row = (prop::option::of(value()), value(), prop::option::of(value()));
    prop::collection::vec(row.prop_map(|(first, key, last)| vec![first, Some(key), last]), 0..20)
}

fn portions<'s>(stream: &'s [u8], cuts: &[prop::sample::Index]) -> Vec<&'s [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(stream.len());
    let mut start = 0;
    ends.into_iter().map(|end| &stream[std::mem::replace(&mut start, end)..end]).collect()
}

proptest! {
    #[test]
    fn portions_do_not_matter(rows in rows(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9)) {
        let keys: Vec<Vec<u8>> = rows.iter().map(|row| row[1].clone().unwrap().into_bytes()).collect();
        let values: Vec<Vec<Option<Vec<u8>>>> =
            rows.iter().map(|row| row.iter().map(|field| field.clone().map(String::into_bytes)).collect()).collect();
        for (kind, stream) in [
            (CopyKind::Text, as_text(&rows).into_bytes()),
            (CopyKind::Csv, as_csv(&rows).into_bytes()),
            (CopyKind::Binary, binary(&values)),
        ] {
            let copy = copy(kind, 1, 3);
            let whole = cut(&copy, &[&stream]).unwrap();
            prop_assert_eq!(&cut(&copy, &portions(&stream, &cuts)).unwrap(), &whole);
            let found: Vec<Vec<u8>> = whole.iter().filter_map(|row| row.1.clone()).collect();
            prop_assert_eq!(&found, &keys);
            prop_assert_eq!(whole.iter().flat_map(|row| row.0.clone()).collect::<Vec<u8>>(), stream);
        }
    }

    #[test]
    fn no_stream_panics(stream in prop::collection::vec(prop::sample::select(b"\\.\n\r\t,\"aN\xff\0\x01".to_vec()), 0..60), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        for kind in [CopyKind::Text, CopyKind::Csv, CopyKind::Binary] {
            let copy = copy(kind, 1, 2);
            let framed = [b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".as_slice(), &stream].concat();
            let stream = if kind == CopyKind::Binary { &framed } else { &stream };
            let whole = cut(&copy, &[stream]);
            prop_assert_eq!(cut(&copy, &portions(stream, &cuts)), whole);
        }
    }

    /// What is cut by key and copied out again by each shard is joined to one stream of all rows.
    #[test]
    fn streams_are_joined(rows in rows(), order in prop::collection::vec(0usize..3, 0..40)) {
        let values: Vec<Vec<Option<Vec<u8>>>> =
            rows.iter().map(|row| row.iter().map(|field| field.clone().map(String::into_bytes)).collect()).collect();
        for kind in [CopyKind::Text, CopyKind::Csv, CopyKind::Binary] {
            let copy = copy(kind, 1, 3);
            let format = CopyFormat { header: kind != CopyKind::Binary, ..copy.format.clone() };
            let header = match kind {
                CopyKind::Text => b"a\tb\tc\n".to_vec(),
                CopyKind::Csv => b"a,\"b\r\n\",c\r\n".to_vec(),
                CopyKind::Binary => binary(&[]),
            };
            // As PostgreSQL sends them: in binary, the header stands before the first row, or the end.
            let mut messages: Vec<Vec<Vec<u8>>> = vec![vec![header.clone()]; 3];
            let mut expect = Vec::new();
            for (at, row) in rows.iter().enumerate() {
                let message = match kind {
                    CopyKind::Text => as_text(std::slice::from_ref(row)).into_bytes(),
                    CopyKind::Csv => as_csv(std::slice::from_ref(row)).into_bytes(),
                    CopyKind::Binary => binary(&values[at..=at])[19..].to_vec(),
                };
                expect.push(message.clone());
                messages[at % 3].push(message);
            }
            if kind == CopyKind::Binary {
                for shard in &mut messages {
                    shard.push(vec![0xff, 0xff]);
                    let second = shard.remove(1);
                    shard[0].extend(second);
                }
            }
            let mut merger = CopyOutMerger::new(&format, 3);
            let mut joined = Vec::new();
            let mut queues: Vec<_> = messages.into_iter().map(Vec::into_iter).collect();
            for shard in order.iter().copied().chain((0..3).flat_map(|shard| std::iter::repeat_n(shard, 30))) {
                if let Some(message) = queues[shard].next() {
                    joined.extend_from_slice(merger.pass(shard, &message).unwrap());
                }
            }
            joined.extend_from_slice(merger.end());
            prop_assert!(joined.starts_with(&header));
            let ends: usize = if kind == CopyKind::Binary { 2 } else { 0 };
            let body = &joined[header.len()..joined.len() - ends];
            prop_assert_eq!(&joined[joined.len() - ends..], &[0xffu8, 0xff][..ends]);
            // The same rows, in whatever order the shards came.
            let mut whole = if kind == CopyKind::Binary { header.clone() } else { Vec::new() };
            whole.extend_from_slice(body);
            let mut found: Vec<Vec<u8>> =
                cut(&copy, &[&whole]).unwrap().into_iter().filter(|row| row.2 > 0).map(|row| row.0).collect();
            found.sort();
            expect.sort();
            prop_assert_eq!(found, expect);
        }
    }

    #[test]
    fn lines_are_found_again(shards in prop::collection::vec((0usize..3, 1u32..4), 0..200), header in 0u32..3) {
        let mut map = LineMap::new(3);
        map.header(header);
        let mut line = u64::from(header) + 1;
        let mut here = [u64::from(header) + 1; 3];
        let mut expect = Vec::new();
        for (shard, lines) in shards {
            let record = super::Record { bytes: b"", key: None, line, lines, lines_alone: lines };
            map.record(shard, &record);
            for _ in 0..lines {
                expect.push((shard, here[shard], line));
                here[shard] += 1;
                line += 1;
            }
        }
        for (shard, line, client) in expect {
            prop_assert_eq!(map.client_line(shard, line), Some(client));
        }
        for (shard, next) in here.into_iter().enumerate() {
            prop_assert_eq!(map.client_line(shard, next), None);
        }
    }
}

#[test]
fn old_lines_are_forgotten() {
    let mut map = LineMap::keeping(1, 100);
    for line in 1..=10_000u64 {
        map.record(0, &super::Record { bytes: b"", key: None, line: line * 3, lines: 1, lines_alone: 1 });
    }
    assert_eq!(map.client_line(0, 10_000), Some(30_000));
    assert_eq!(map.client_line(0, 9_950), Some(29_850));
    assert_eq!(map.client_line(0, 9_000), None);
}

#[test]
fn contexts_name_the_clients_line() {
    let mut map = LineMap::new(2);
    map.header(1);
    for (shard, line) in [(0, 2), (1, 3), (1, 4), (0, 5)] {
        map.record(shard, &super::Record { bytes: b"", key: None, line, lines: 1, lines_alone: 1 });
    }
    for (shard, context, expect) in [
        (0, "COPY jobs, line 3, column id: \"x\"", Some("COPY jobs, line 5, column id: \"x\"")),
        (1, "COPY jobs, line 2: \"x, line 9\"", Some("COPY jobs, line 3: \"x, line 9\"")),
        (
            1,
            "PL/pgSQL function f() line 4 at RAISE\nCOPY jobs, line 3: \"x\"",
            Some("PL/pgSQL function f() line 4 at RAISE\nCOPY jobs, line 4: \"x\""),
        ),
        (1, "COPY jobs, line 9", None),
        (1, "COPY jobs", None),
        (1, "", None),
    ] {
        assert_eq!(map.context(shard, context).as_deref(), expect, "{context}");
    }
}
