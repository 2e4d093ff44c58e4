//! The 22 queries of TPC-H. Customers, their orders and the lines of these are sharded by customer;
//! the rest is the same everywhere.
//!
//! Asked as they are, where lines and orders meet on the order's number (which says nothing of the
//! shard to who does not know the data), and once more where they meet on the customer as well.

use std::collections::HashMap;
use std::fmt::Write;

use pgring::demo::cluster::Cluster;
use pgring::demo::sample::{self, APP};
use pgring::ring::Key;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen::q_and_a::queries;

use super::answer::{Mode, Session};
use super::corpus::ask_both;
use super::stage::Pair;
use super::statement::Statement;
use super::tally::Tally;
use crate::support::{self, Config, Proxy};

/// 1500 customers, 15,000 orders, 60,000 lines.
const SCALE: f64 = 0.01;
/// How many of a hundred queries may be refused.
const MOST_REFUSED: f64 = 0.0;

const SCHEMA: &str = "
CREATE TABLE region (r_regionkey integer PRIMARY KEY, r_name char(25), r_comment varchar(152));
CREATE TABLE nation (n_nationkey integer PRIMARY KEY, n_name char(25), n_regionkey integer, n_comment varchar(152));
CREATE TABLE part (p_partkey bigint PRIMARY KEY, p_name varchar(55), p_mfgr char(25), p_brand char(10), p_type varchar(25), p_size integer, p_container char(10), p_retailprice numeric(15, 2), p_comment varchar(23));
CREATE TABLE supplier (s_suppkey bigint PRIMARY KEY, s_name char(25), s_address varchar(40), s_nationkey integer, s_phone char(15), s_acctbal numeric(15, 2), s_comment varchar(101));
CREATE TABLE partsupp (ps_partkey bigint, ps_suppkey bigint, ps_availqty integer, ps_supplycost numeric(15, 2), ps_comment varchar(199), PRIMARY KEY (ps_partkey, ps_suppkey));
CREATE TABLE customer (c_custkey bigint PRIMARY KEY, c_name varchar(25), c_address varchar(40), c_nationkey integer, c_phone char(15), c_acctbal numeric(15, 2), c_mktsegment char(10), c_comment varchar(117));
CREATE TABLE orders (o_orderkey bigint PRIMARY KEY, o_custkey bigint NOT NULL, o_orderstatus char(1), o_totalprice numeric(15, 2), o_orderdate date, o_orderpriority char(15), o_clerk char(15), o_shippriority integer, o_comment varchar(79));
CREATE TABLE lineitem (l_orderkey bigint, l_partkey bigint, l_suppkey bigint, l_linenumber integer, l_quantity numeric(15, 2), l_extendedprice numeric(15, 2), l_discount numeric(15, 2), l_tax numeric(15, 2), l_returnflag char(1), l_linestatus char(1), l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct char(25), l_shipmode char(10), l_comment varchar(44), l_custkey bigint NOT NULL, PRIMARY KEY (l_orderkey, l_linenumber));
CREATE INDEX ON orders (o_custkey);
CREATE INDEX ON lineitem (l_partkey, l_suppkey);
";

const SHARDED: [(&str, &str); 3] =
    [("customer", "c_custkey"), ("orders", "o_custkey"), ("lineitem", "l_custkey")];
const REFERENCE: [&str; 5] = ["region", "nation", "part", "supplier", "partsupp"];

/// What the queries ask for, in order of their placeholders: those of the specification, or what
/// finds something at this scale. Behind it the limit.
const ASKED: [(&[&str], u32); 22] = [
    (&["90"], 0),
    (&["15", "BRASS", "EUROPE"], 100),
    (&["BUILDING", "1995-03-15"], 10),
    (&["1993-07-01"], 0),
    (&["ASIA", "1994-01-01"], 0),
    (&["1994-01-01", "0.06", "24"], 0),
    (&["FRANCE", "GERMANY"], 0),
    (&["BRAZIL", "AMERICA", "ECONOMY ANODIZED STEEL"], 0),
    (&["green"], 0),
    (&["1993-10-01"], 20),
    (&["GERMANY", "0.001"], 0),
    (&["MAIL", "SHIP", "1994-01-01"], 0),
    (&["special", "requests"], 0),
    (&["1995-09-01"], 0),
    (&["1996-01-01"], 0),
    (&["Brand#45", "MEDIUM POLISHED", "49", "14", "23", "45", "19", "3", "36", "9"], 0),
    (&["Brand#23", "MED BOX"], 0),
    (&["270"], 100),
    (&["Brand#12", "Brand#23", "Brand#34", "1", "10", "20"], 0),
    (&["forest", "1994-01-01", "CANADA"], 0),
    (&["SAUDI ARABIA"], 100),
    (&["13", "31", "23", "29", "30", "18", "17"], 0),
];

/// Where rows of orders and lines meet, and what to add for them to meet on the shard.
const MEETINGS: [(&str, &str); 5] = [
    ("l_orderkey = o_orderkey", "l_custkey = o_custkey"),
    ("o_orderkey = l_orderkey", "o_custkey = l_custkey"),
    ("o_orderkey = l1.l_orderkey", "o_custkey = l1.l_custkey"),
    ("l2.l_orderkey = l1.l_orderkey", "l2.l_custkey = l1.l_custkey"),
    ("l3.l_orderkey = l1.l_orderkey", "l3.l_custkey = l1.l_custkey"),
];

fn query(number: usize) -> String {
    let text = match number {
        // A view, in the specification.
        15 => {
            "with revenue (supplier_no, total_revenue) as (select l_suppkey, sum(l_extendedprice * (1 - l_discount)) \
             from lineitem where l_shipdate >= date ':1' and l_shipdate < date ':1' + interval '3' month \
             group by l_suppkey) select s_suppkey, s_name, s_address, s_phone, total_revenue from supplier, revenue \
             where s_suppkey = supplier_no and total_revenue = (select max(total_revenue) from revenue) \
             order by s_suppkey"
        }
        _ => queries::query(i32::try_from(number).unwrap()).unwrap(),
    };
    let (values, limit) = ASKED[number - 1];
    let mut text = text.trim().trim_end_matches(';').replace("day (3)", "day");
    for (position, value) in values.iter().enumerate().rev() {
        text = text.replace(&format!(":{}", position + 1), value);
    }
    if limit > 0 {
        write!(text, "\nlimit {limit}").unwrap();
    }
    text
}

/// The same where lines, orders and customers meet on the shard.
fn together(text: &str) -> String {
    MEETINGS.iter().fold(text.to_owned(), |text, (meeting, on_shard)| {
        text.replace(meeting, &format!("{meeting} and {on_shard}"))
    })
}

/// What `COPY` takes of the rows of all tables: for each of `shards`, and of all together.
struct Rows {
    shards: usize,
    /// By table and place; the last place is of all rows.
    copies: HashMap<&'static str, Vec<String>>,
}

impl Rows {
    fn add(&mut self, table: &'static str, places: &[usize], row: &str) {
        let shards = self.shards;
        let copies = self.copies.entry(table).or_insert_with(|| vec![String::new(); shards + 1]);
        for place in places.iter().chain([&shards]) {
            copies[*place].push_str(row);
            copies[*place].push('\n');
        }
    }

    fn of(shards: usize) -> Rows {
        let topology = support::topology(shards);
        let owner = |customer: i64| topology.owner(Key::Integer(customer).hash()).index();
        let mut rows = Rows { shards, copies: HashMap::new() };
        let all: Vec<usize> = (0..shards).collect();
        // `COPY` wants no separator behind the last column.
        let line = |row: &dyn std::fmt::Display| {
            let text = row.to_string();
            text.strip_suffix('|').unwrap_or(&text).to_owned()
        };
        RegionGenerator::new(SCALE, 1, 1).iter().for_each(|row| rows.add("region", &all, &line(&row)));
        NationGenerator::new(SCALE, 1, 1).iter().for_each(|row| rows.add("nation", &all, &line(&row)));
        PartGenerator::new(SCALE, 1, 1).iter().for_each(|row| rows.add("part", &all, &line(&row)));
        SupplierGenerator::new(SCALE, 1, 1).iter().for_each(|row| rows.add("supplier", &all, &line(&row)));
        PartSuppGenerator::new(SCALE, 1, 1).iter().for_each(|row| rows.add("partsupp", &all, &line(&row)));
        for row in CustomerGenerator::new(SCALE, 1, 1).iter() {
            rows.add("customer", &[owner(row.c_custkey)], &line(&row));
        }
        let mut customers = HashMap::new();
        for row in OrderGenerator::new(SCALE, 1, 1).iter() {
            customers.insert(row.o_orderkey, row.o_custkey);
            rows.add("orders", &[owner(row.o_custkey)], &line(&row));
        }
        for row in LineItemGenerator::new(SCALE, 1, 1).iter() {
            let customer = customers[&row.l_orderkey];
            rows.add("lineitem", &[owner(customer)], &format!("{row}{customer}"));
        }
        rows
    }

    fn load(&self, place: usize, server: &Cluster, database: &str) {
        sample::create_database(server, database).unwrap();
        let mut script = SCHEMA.to_owned();
        for (table, copies) in &self.copies {
            write!(script, "COPY {table} FROM stdin (DELIMITER '|');\n{}\\.\n", copies[place]).unwrap();
        }
        script.push_str("ANALYZE;\n");
        server.psql(APP, database, &script).unwrap();
    }
}

fn config(name: &str, servers: &[&'static Cluster]) -> Config {
    let tables = "[[database.table]]\nname = \"plans\"\nreference = true\n";
    let mut own = String::new();
    for (table, key) in SHARDED {
        write!(own, "[[database.table]]\nname = \"{table}\"\nkey = \"{key}\"\n").unwrap();
    }
    for table in REFERENCE {
        write!(own, "[[database.table]]\nname = \"{table}\"\nreference = true\n").unwrap();
    }
    Config::new().database(name, servers).replace(tables, &own)
}

#[test]
fn the_queries_of_tpc_h_are_answered_as_one_postgresql_does() {
    let servers = support::servers(3);
    let (name, oracle) = (support::unique_name("tpch"), support::unique_name("tpch_whole"));
    let rows = Rows::of(servers.len());
    std::thread::scope(|scope| {
        for (place, server) in servers.iter().enumerate() {
            let (rows, name) = (&rows, &name);
            scope.spawn(move || rows.load(place, server, name));
        }
        scope.spawn(|| rows.load(servers.len(), servers[0], &oracle));
    });
    let proxy = Proxy::start(config(&name, &servers));
    let mut pair = Pair {
        pgring: Session::new(proxy.address(), APP, &name),
        oracle: Session::new(servers[0].address(), APP, &oracle),
    };
    let mut tally = Tally::default();
    for number in 1..=22 {
        let text = query(number);
        let found = pair.oracle.must(&text).rows.len();
        assert!(found > 0, "query {number} finds nothing, which shows nothing");
        let mut statement = Statement::new(&text);
        statement.place = format!("query {number:02}");
        tally.asked += 1;
        for mode in [Mode::Simple, Mode::Binary] {
            ask_both(&mut pair, &statement, mode, &mut tally);
        }
        let on_shards = together(&text);
        if on_shards != text {
            let mut statement = Statement::new(&on_shards);
            statement.place = format!("query {number:02} on the shards");
            tally.asked += 1;
            ask_both(&mut pair, &statement, Mode::Simple, &mut tally);
        }
    }
    tally.check("TPC-H", MOST_REFUSED);
}
