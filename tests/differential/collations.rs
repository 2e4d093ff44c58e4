//! What depends on the order of text, in databases that do not order it by bytes, or say so in other
//! words than `C`.

use pgring::demo::cluster::SUPERUSER;

use super::answer::Mode;
use super::corpus::read_all;
use super::stage::{Collation, Stage};
use super::statement::corpus;
use crate::support;

/// How many of a hundred statements may be refused. To be lowered with every tier.
const MOST_REFUSED: f64 = 2.0;

#[track_caller]
fn in_its_order(collation: Collation) {
    let stage = Stage::collated(collation);
    let tally = read_all(&stage, &corpus("corpus/text"), &[Mode::Simple, Mode::Binary]);
    tally.check(collation, MOST_REFUSED);
}

#[test]
fn text_is_sorted_as_one_postgresql_sorts_it_in_the_c_locale_of_utf8() {
    in_its_order("TEMPLATE template0 LOCALE 'C.UTF-8'");
}

#[test]
fn text_is_sorted_as_one_postgresql_sorts_it_in_english() {
    // Comes with `make install-deps`.
    in_its_order("TEMPLATE template0 LOCALE 'en_US.UTF-8'");
}

#[test]
fn text_is_sorted_as_one_postgresql_sorts_it_by_icu() {
    let version = support::servers(1)[0].psql(SUPERUSER, "postgres", "SHOW server_version_num").unwrap();
    if version.trim().parse::<u32>().unwrap() < 150_000 {
        println!("databases have no ICU collation before PostgreSQL 15");
        return;
    }
    in_its_order("TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
}
