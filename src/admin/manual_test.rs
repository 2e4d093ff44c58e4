//! `docs/console.md` against the table of commands: one heading each, and each `SHOW`'s
//! columns in their order. A command or column that the manual lacks does not exist for its
//! users; one that only the manual has is a lie.

use super::command::{COMMANDS, Meaning, Right};
use super::show::columns;

const MANUAL: &str = include_str!("../../docs/console.md");

/// The sections under `### `, as (heading, lines).
fn sections() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in MANUAL.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            sections.push((heading.trim_matches('`'), Vec::new()));
        } else if line.starts_with("## ") {
            sections.push(("", Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line);
        }
    }
    sections.retain(|(heading, _)| !heading.is_empty());
    sections
}

#[test]
fn each_command_has_its_section_in_order() {
    let headings: Vec<_> = sections().into_iter().map(|(heading, _)| heading).collect();
    let syntaxes: Vec<_> = COMMANDS.iter().map(|info| info.syntax).collect();
    assert_eq!(headings, syntaxes);
}

#[test]
fn each_section_has_the_columns() {
    for ((heading, lines), info) in sections().into_iter().zip(COMMANDS) {
        let written: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("| `"))
            .flat_map(|line| line.split(" | ").next().unwrap_or_default().split(", "))
            .map(|name| name.trim_matches('`'))
            .collect();
        let expect: Vec<&str> = match info.meaning {
            Meaning::Show(show) => columns(show).iter().map(|column| column.name).collect(),
            _ => Vec::new(),
        };
        assert_eq!(written, expect, "{heading}");
    }
}

#[test]
fn the_two_chapters_are_the_two_rights() {
    let (_, commands) = MANUAL.split_once("\n## Commands that change something").unwrap();
    for info in COMMANDS {
        let changes = commands.contains(&format!("\n### `{}`", info.syntax));
        assert_eq!(changes, info.right == Right::Admin, "{}", info.name);
    }
}
