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
