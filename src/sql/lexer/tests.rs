use super::TokenKind::{
    BitString, Decimal, DollarString, EscapeString, Integer, NationalString, Operator, Param, Punct,
    QuotedIdent, Semicolon, String as Str, UnicodeIdent, UnicodeString, Word,
};
use super::*;

fn tokens(text: &str) -> Vec<(TokenKind, &str)> {
    tokenize(text.as_bytes(), true)
        .unwrap()
        .into_iter()
        .map(|token| (token.kind, &text[token.span.start as usize..token.span.end as usize]))
        .collect()
}

fn check(text: &str, expect: &[(TokenKind, &str)]) {
    assert_eq!(tokens(text), expect, "{text}");
}

#[test]
fn operators_are_cut_as_postgresql_cuts_them() {
    check("=-1", &[(Operator, "="), (Operator, "-"), (Integer, "1")]);
    check("@-1", &[(Operator, "@-"), (Integer, "1")]);
    check("*+-<+-", &[(Operator, "*+-<"), (Operator, "+"), (Operator, "-")]);
    check("<>-1", &[(Operator, "<>"), (Operator, "-"), (Integer, "1")]);
    check("a=--b\n1", &[(Word, "a"), (Operator, "="), (Integer, "1")]);
    check("a+/*x*/b", &[(Word, "a"), (Operator, "+"), (Word, "b")]);
    check("->>'x'", &[(Operator, "->>"), (Str, "'x'")]);
    check("- -1", &[(Operator, "-"), (Operator, "-"), (Integer, "1")]);
    check(
        "a::int:=b..c=>d:e",
        &[
            (Word, "a"),
            (Operator, "::"),
            (Word, "int"),
            (Operator, ":="),
            (Word, "b"),
            (Operator, ".."),
            (Word, "c"),
            (Operator, "=>"),
            (Word, "d"),
            (Punct, ":"),
            (Word, "e"),
        ],
    );
    check("?-;|/2", &[(Operator, "?-"), (Semicolon, ";"), (Operator, "|/"), (Integer, "2")]);
    let long = format!("{}x", "+-".repeat(1000));
    assert_eq!(tokens(&long).len(), 2001);
}

#[test]
fn numbers() {
    check(
        "1 1.5 .5 1. 1e10 1.e-5 1_000 0x1F 0b1 0o7",
        &[
            (Integer, "1"),
            (Decimal, "1.5"),
            (Decimal, ".5"),
            (Decimal, "1."),
            (Decimal, "1e10"),
            (Decimal, "1.e-5"),
            (Integer, "1_000"),
            (Integer, "0x1F"),
            (Integer, "0b1"),
            (Integer, "0o7"),
        ],
    );
    check("1..2", &[(Integer, "1"), (Operator, ".."), (Integer, "2")]);
    check("a.1", &[(Word, "a"), (Decimal, ".1")]);
    check("1.5.3", &[(Decimal, "1.5"), (Decimal, ".3")]);
    check("1$2", &[(Integer, "1"), (Param, "$2")]);
    check("1e+5$2", &[(Decimal, "1e+5"), (Param, "$2")]);
    let junk = [
        "123abc", "1_", "1__0", "1e", "1e+", "1ex", "1.5x", "1e5x", "1e5$2", "0x", "0xg", "0b12", "0o8",
        "0x1F$1", "1\u{e9}", "1._5", "0b'1'",
    ];
    for text in junk {
        let error = tokenize(text.as_bytes(), true).unwrap_err();
        assert_eq!(error, LexError { fault: LexFault::NumberJunk, at: 0 }, "{text}");
    }
}

#[test]
fn strings() {
    check(
        "'a''b' E'\\'' N'x' B'01' x'1f' U&'d\\0061' $$a$b$$ $t$ $$ $u$ $t$",
        &[
            (Str, "'a''b'"),
            (EscapeString, "E'\\''"),
            (NationalString, "N'x'"),
            (BitString, "B'01'"),
            (BitString, "x'1f'"),
            (UnicodeString, "U&'d\\0061'"),
            (DollarString, "$$a$b$$"),
            (DollarString, "$t$ $$ $u$ $t$"),
        ],
    );
    check("'a' \n 'b'", &[(Str, "'a' \n 'b'")]);
    check("'a' -- it's\n--x\r\n'b' 'c'", &[(Str, "'a' -- it's\n--x\r\n'b'"), (Str, "'c'")]);
    check("'a' /* \n */ 'b'", &[(Str, "'a'"), (Str, "'b'")]);
    check("E'a'\n'\\'b'", &[(EscapeString, "E'a'\n'\\'b'")]);
    check("B'0''1'", &[(BitString, "B'0'"), (Str, "'1'")]);
    check("'a\\' 'b'", &[(Str, "'a\\'"), (Str, "'b'")]);
    check("date'x'", &[(Word, "date"), (Str, "'x'")]);
    check("$a$ $b$a$", &[(DollarString, "$a$ $b$a$")]);
    check("a$$b$$", &[(Word, "a$$b$$")]);
    check("u&b", &[(Word, "u"), (Operator, "&"), (Word, "b")]);
    let off = tokenize(b"'a\\' 'b'", false);
    assert_eq!(off.unwrap_err().fault, LexFault::UnterminatedString);
    assert_eq!(tokenize(b"U&'x'", false).unwrap_err().fault, LexFault::UnsafeUnicode);
}

#[test]
fn words_comments_parameters() {
    check(
        "/* /* ; */ ' */ A\u{e9}$1 \"x\"\"y\" U&\"z\" $1,$22 --end",
        &[
            (Word, "A\u{e9}$1"),
            (QuotedIdent, "\"x\"\"y\""),
            (UnicodeIdent, "U&\"z\""),
            (Param, "$1"),
            (Punct, ","),
            (Param, "$22"),
        ],
    );
    check("/*/ 1 */ 2", &[(Integer, "2")]);
    check("/**/1", &[(Integer, "1")]);
    let faults = [
        ("'a", LexFault::UnterminatedString),
        ("E'a\\'", LexFault::UnterminatedString),
        ("E'a\\", LexFault::UnterminatedString),
        ("\"a", LexFault::UnterminatedIdentifier),
        ("\"\"", LexFault::EmptyIdentifier),
        ("U&\"\"", LexFault::EmptyIdentifier),
        ("$a$ $b$", LexFault::UnterminatedDollar),
        ("$a", LexFault::Character),
        ("$", LexFault::Character),
        ("a \\ b", LexFault::Character),
        ("{", LexFault::Character),
        ("\u{1}", LexFault::Character),
        ("$1a", LexFault::ParameterJunk),
        ("/* /* */", LexFault::UnterminatedComment),
    ];
    for (text, fault) in faults {
        assert_eq!(tokenize(text.as_bytes(), true).unwrap_err().fault, fault, "{text}");
    }
    assert_eq!(tokenize("@".repeat(64).as_bytes(), true).unwrap_err().fault, LexFault::LongOperator);
}

fn lexed(text: &str) -> Lexed {
    let mut lexed = Lexed::default();
    lexed.lex(text.as_bytes(), true).unwrap();
    lexed
}

fn normalized(text: &str) -> Vec<u8> {
    lexed(text).normalized().to_vec()
}

#[test]
fn one_fingerprint_only_where_the_meaning_is_one() {
    let same = [
        ("select 1", " SELECT\n/* x */ 2 --"),
        ("a=1", "A = 22"),
        ("f(a,'x')", "F ( a , 'yy' )"),
        ("a.b", "a . b"),
        ("'a'", "'b'\n'c'"),
        ("x; y", "x/**/;y"),
    ];
    for (one, other) in same {
        assert_eq!(normalized(one), normalized(other), "{one} | {other}");
    }
    let different = [
        ("a/**/b", "ab"),
        ("- -1", "--1"),
        ("-1", "- -1"),
        ("\"a\"", "a"),
        ("\"A\"", "\"a\""),
        ("\"a\" \"b\"", "\"a\"\"b\""),
        ("1", "1.0"),
        ("1", "'1'"),
        ("'x'", "E'x'"),
        ("'x'", "$$x$$"),
        ("N'x'", "'x'"),
        ("$1", "$2"),
        ("$1", "1"),
        ("a: =b", "a:=b"),
        ("a. .b", "a..b"),
        ("a: :b", "a::b"),
        ("a < = b", "a <= b"),
        ("a <> b", "a != b"),
        ("x", "x;"),
        ("(a),b", "(a,b)"),
        ("U&\"d!0061\" UESCAPE '!'", "U&\"d!0061\" UESCAPE '?'"),
        ("select set_config('a', 'x', true)", "select set_config('b', 'x', true)"),
        ("select \"set_config\"('a', 'x', true)", "select \"set_config\"('b', 'x', true)"),
        ("select pg_table_size('a')", "select pg_table_size('b')"),
        ("select \"pg_relation_size\"('a')", "select \"pg_relation_size\"('b')"),
    ];
    for (one, other) in different {
        assert_ne!(normalized(one), normalized(other), "{one} | {other}");
    }
    assert_eq!(
        normalized("select pg_catalog.set_config('a', 'x', true)"),
        normalized("select pg_catalog.set_config('a', 'yy', true)")
    );
}

#[test]
fn literals_have_the_values_postgresql_gives_them() {
    let rows: &[(&str, Option<&str>)] = &[
        ("42", Some("42")),
        ("1.50", Some("1.50")),
        ("''", Some("")),
        ("'a''b'", Some("a'b")),
        (r"'a\n'", Some(r"a\n")),
        ("'a' -- '\n 'b''c'", Some("ab'c")),
        (r"E'a\'b\n\t\\\q'''", Some("a'b\n\t\\q'")),
        (r"e'\x41\x4g\101\7\u0041\U00000042\x'", Some("A\x04gA\x07ABx")),
        ("e'a'\n'\\t'", Some("a\t")),
        (r"e'\v'", None),
        (r"e'\0'", None),
        (r"e'\u00e9'", None),
        (r"e'\u00'", None),
        ("$$a'b$$", Some("a'b")),
        ("$t$a$$b$t$", Some("a$$b")),
        ("$$$$", Some("")),
        ("N'a''b'", Some("a'b")),
        ("B'01'", None),
        ("X'1f'", None),
        ("U&'abc'", Some("abc")),
        (r"U&'d\0061'", None),
        ("U&'abc' UESCAPE 'b'", None),
    ];
    for (text, expect) in rows {
        let lexed = lexed(text);
        let value = lexed.literal_value(text.as_bytes(), 0);
        assert_eq!(value.as_deref(), expect.map(str::as_bytes), "{text}");
    }
    let mut off = Lexed::default();
    let text = br"'a\'b' N'\t'";
    off.lex(text, false).unwrap();
    assert_eq!(off.literal_value(text, 0).as_deref(), Some(&b"a'b"[..]));
    assert_eq!(off.literal_value(text, 1).as_deref(), Some(&b"\t"[..]));
    assert_eq!(off.literal_value(text, 2), None);
}

#[test]
fn statements_are_counted() {
    for (text, count) in [("", 0), (" ; /* x */ ;", 0), ("a", 1), ("a;", 1), ("a;;b", 2), ("';'; $$;$$", 2)] {
        assert_eq!(lexed(text).statement_count(), count, "{text}");
    }
}

#[test]
fn hostile_texts_take_linear_time() {
    let size = 2 << 20;
    let texts = [
        "(".repeat(size),
        "/*".repeat(size / 2),
        "+-".repeat(size / 2),
        "*+".repeat(size / 2),
        "'".repeat(size),
        "$".repeat(size),
        format!("$a${}", "$a".repeat(size / 2)),
        "'a'\n".repeat(size / 4),
        format!("'a'{}", "\n--'".repeat(size / 4)),
        "-- pgring: key=1\n".repeat(size / 16),
        "1_".repeat(size / 2),
        "U&".repeat(size / 2),
    ];
    let start = std::time::Instant::now();
    for text in &texts {
        let mut lexed = Lexed::default();
        let read = lexed.lex(text.as_bytes(), true);
        assert_eq!(read.err(), tokenize(text.as_bytes(), true).err());
    }
    // Quadratic would be hours.
    assert!(start.elapsed().as_secs() < 60);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that make tokens meet, with some of any kind between them.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let alphabet = b"'\"$$--/**/\\;:=.,()eEuU&nNbBxX019_a \n+<>@\xc3\xa9";
        let byte = prop_oneof![19 => prop::sample::select(alphabet.to_vec()), 1 => any::<u8>()];
        prop::collection::vec(byte, 0..60)
    }

    fn token() -> impl Strategy<Value = &'static str> {
        let words =
            ["select", "Ab", "a$1", "e", "u", "\u{e9}", "\"q\"", "\"q\"\"Q\"", "U&\"z\"", "$1", "$22"];
        let marks =
            ["(", ")", "[", "]", ",", ".", ":", ";", "=", "-", "+", "<=", "<>", "::", ":=", "=>", ".."];
        let operators = ["->>", "@-", "*"];
        let literals = ["1", "1.5", ".5", "0x1F", "'s'", "'s''t'", r"E'\''", "$$d$$", "$t$ ' $t$", "U&'u'"];
        let strings = ["B'1'", "N'n'"];
        let all = [&words[..], &marks, &operators, &literals, &strings].concat();
        prop::sample::select(all)
    }

    fn space() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![" ", "\t ", "/**/ ", "/* ' */", " /*/*x*/;*/ ", "\n", " --'\n", "\r\n"])
    }

    fn join(tokens: &[&'static str], spaces: &[&'static str]) -> String {
        let mut text = String::new();
        for (token, space) in tokens.iter().zip(spaces) {
            text.push_str(token);
            text.push(' ');
            // A line end after a string would join it with the next one.
            text.push_str(if token.ends_with('\'') && space.contains('\n') { " " } else { space });
        }
        text
    }

    /// SQL that has the normalized form's structure.
    fn restored(normalized: &[u8]) -> Vec<u8> {
        let samples: [&[u8]; 8] = [b"1 ", b"1.5 ", b"'' ", b"E'' ", b"$$$$ ", b"U&'' ", b"B'' ", b"N'' "];
        let mut quoted = false;
        let mut text = Vec::new();
        for &byte in normalized {
            quoted ^= byte == b'"';
            match byte {
                1..=8 if !quoted => text.extend_from_slice(samples[usize::from(byte) - 1]),
                byte => text.push(byte),
            }
        }
        text
    }

    fn outline(text: &[u8]) -> Vec<(TokenKind, Vec<u8>)> {
        let tokens = tokenize(text, true).unwrap();
        let raw = |token: &Token| text[token.span.start as usize..token.span.end as usize].to_vec();
        tokens
            .iter()
            .map(|token| match token.kind {
                kind if kind.is_literal() => (kind, Vec::new()),
                Word => (Word, raw(token).to_ascii_lowercase()),
                kind => (kind, raw(token)),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn both_readers_agree_and_neither_panics(text in text(), conforming: bool) {
            let mut lexed = Lexed::default();
            let read = lexed.lex(&text, conforming);
            match tokenize(&text, conforming) {
                Err(error) => prop_assert_eq!(read, Err(error)),
                Ok(tokens) => {
                    prop_assert_eq!(read, Ok(()));
                    let literals: Vec<Literal> = tokens
                        .iter()
                        .filter(|token| token.kind.is_literal())
                        .map(|token| Literal { kind: token.kind, span: token.span.clone() })
                        .collect();
                    prop_assert_eq!(lexed.literals(), &literals[..]);
                    for slot in 0..=literals.len() {
                        lexed.literal_value(&text, u32::try_from(slot).unwrap());
                    }
                }
            }
        }

        #[test]
        fn the_normalized_form_keeps_every_token(text in text()) {
            let mut lexed = Lexed::default();
            if lexed.lex(&text, true).is_ok() {
                prop_assert_eq!(outline(&restored(lexed.normalized())), outline(&text));
            }
        }

        #[test]
        fn spacing_does_not_matter(
            tokens in prop::collection::vec(token(), 0..20),
            one in prop::collection::vec(space(), 20),
            other in prop::collection::vec(space(), 20),
        ) {
            prop_assert_eq!(normalized(&join(&tokens, &one)), normalized(&join(&tokens, &other)));
        }

        #[test]
        fn hints_never_panic(inside in "[ ,='a-z*/]{0,30}") {
            let text = format!("-- pgring: {inside}\n 1");
            let mut lexed = Lexed::default();
            lexed.lex(text.as_bytes(), true).unwrap();
            let hints = lexed.hints();
            for span in [&hints.key, &hints.shard].into_iter().flatten() {
                Hints::value(text.as_bytes(), span);
            }
        }
    }
}
