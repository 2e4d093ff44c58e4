//! Any bytes as SQL, under both readings of a backslash: tokens lie in order and inside the
//! text, and reading it twice gives the same fingerprint.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgring::sql::{Lexed, tokenize};

fuzz_target!(|text: &[u8]| {
    for standard_conforming_strings in [true, false] {
        let tokens = tokenize(text, standard_conforming_strings);
        for token in tokens.iter().flatten() {
            assert!(token.span.start < token.span.end);
            assert!(token.span.end as usize <= text.len());
        }
        for pair in tokens.iter().flat_map(|tokens| tokens.windows(2)) {
            assert!(pair[0].span.end <= pair[1].span.start);
        }

        let (mut first, mut second) = (Lexed::default(), Lexed::default());
        let outcome = first.lex(text, standard_conforming_strings);
        assert_eq!(outcome, second.lex(text, standard_conforming_strings));
        assert_eq!(outcome.is_ok(), tokens.is_ok());
        assert_eq!(first.normalized(), second.normalized());
        for slot in 0..=first.literals().len() as u32 {
            let _ = first.literal_value(text, slot);
        }
    }
});
