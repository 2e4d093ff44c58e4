//! What the catalogs say of functions that may leave something on their server.
//!
//! Sources are read again only when a function has changed: the server is asked for a fingerprint
//! first. Who calls what is asked only where there is a suspect, which most databases do not have.

use super::schema::SchemaError;
use crate::sql::{Edge, Hidden, Routine, Suspects, Volatility};
use std::collections::HashSet;
use std::sync::Arc;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

/// Users' own functions: PostgreSQL's have OIDs below 16384 (`FirstNormalObjectId`).
const FINGERPRINT: &str = "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtext(
       pg_catalog.concat(p.oid, ' ', p.xmin, ' ', p.proname, ' ', p.provolatile))::int8)
  FROM pg_catalog.pg_proc p WHERE p.oid >= 16384";

/// A body that is no string (`BEGIN ATOMIC`) is in the definition.
const ROUTINES: &str = "SELECT p.proname, l.lanname, p.provolatile,
       EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                  AND d.objid = p.oid AND d.deptype = 'e'),
       p.pronargs = 1 AND EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = p.proargtypes[0]
                  AND (t.typtype = 'c' OR t.typname = 'record')),
       CASE WHEN l.lanname NOT IN ('sql', 'plpgsql') THEN ''
            WHEN p.prosrc = '' THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
 WHERE p.oid >= 16384 AND p.prokind IN ('f', 'p')";

/// What depends on a function, as the relation or function it belongs to; and which relations are
/// touched through others. A foreign key passes a change on unless it only forbids it.
const EDGES: &str = "WITH d AS (
  SELECT d.classid, d.objid, p.proname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
   WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid >= 16384)
SELECT CASE r.ev_type WHEN '1' THEN 'reads' ELSE 'writes' END, d.proname, c.relname
  FROM d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
 WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
UNION SELECT 'writes', d.proname, c.relname
  FROM d JOIN pg_catalog.pg_trigger t ON t.oid = d.objid JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
 WHERE d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass
UNION SELECT 'writes', d.proname, c.relname
  FROM d JOIN pg_catalog.pg_attrdef a ON a.oid = d.objid JOIN pg_catalog.pg_class c ON c.oid = a.adrelid
 WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
UNION SELECT 'reads', d.proname, c.relname
  FROM d JOIN pg_catalog.pg_policy y ON y.oid = d.objid JOIN pg_catalog.pg_class c ON c.oid = y.polrelid
 WHERE d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass
UNION SELECT CASE WHEN c.oid IS NULL THEN 'anybody' ELSE 'writes' END, d.proname, COALESCE(c.relname, '')
  FROM d JOIN pg_catalog.pg_constraint k ON k.oid = d.objid LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
 WHERE d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
UNION SELECT 'writes', d.proname, c.relname
  FROM d LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = d.objid
  JOIN pg_catalog.pg_class c ON c.oid = COALESCE(i.indrelid, d.objid)
 WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
UNION SELECT 'calls', d.proname, p.proname FROM d JOIN pg_catalog.pg_proc p ON p.oid = d.objid
 WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
UNION SELECT 'anybody', d.proname, '' FROM d
 WHERE d.classid::pg_catalog.regclass::text !~ '^(pg_catalog\\.)?pg_(rewrite|trigger|attrdef|policy|constraint|class|proc)$'
UNION SELECT 'view', b.relname, v.relname
  FROM pg_catalog.pg_depend e JOIN pg_catalog.pg_rewrite r ON r.oid = e.objid
  JOIN pg_catalog.pg_class v ON v.oid = r.ev_class JOIN pg_catalog.pg_class b ON b.oid = e.refobjid
 WHERE e.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
   AND e.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND b.oid <> v.oid AND b.oid >= 16384
UNION SELECT 'passes', c.relname, p.relname
  FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid
  JOIN pg_catalog.pg_class p ON p.oid = h.inhparent WHERE c.relkind IN ('r', 'p', 'f')
UNION SELECT 'passes', c.relname, p.relname
  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_class p ON p.oid = k.confrelid
 WHERE k.contype = 'f' AND (k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r'))
 ORDER BY 1, 2, 3";

/// The names of functions that are not volatile in any of their forms, whoever's they are. An aggregate
/// is what the functions are that it is made of: it is always declared immutable itself.
const STEADY: &str = "SELECT p.proname FROM pg_catalog.pg_proc p
  LEFT JOIN (SELECT DISTINCT a.aggfnoid::pg_catalog.oid FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc f
        ON f.provolatile = 'v' AND f.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn,
           a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)) v ON v.aggfnoid = p.oid
 WHERE p.prokind <> 'p'
 GROUP BY p.proname HAVING pg_catalog.bool_and(p.provolatile <> 'v' AND v.aggfnoid IS NULL) ORDER BY 1";

/// Users' own operators and casts whose function may write: one that is not immutable may call another
/// that does; of an extension's it is believed that it does not. A type counts by its own name, and by
/// those of domains over it; PostgreSQL's own have more names than one.
const HIDDEN: &str = "WITH RECURSIVE f AS (
  SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.provolatile = 'v' OR (p.provolatile = 's' AND p.oid >= 16384
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.objid = p.oid
            AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass))),
k AS (SELECT c.casttarget, c.castcontext FROM pg_catalog.pg_cast c JOIN f ON f.oid = c.castfunc WHERE c.oid >= 16384),
t(oid) AS (
  SELECT k.casttarget FROM k
  UNION SELECT d.oid FROM t JOIN pg_catalog.pg_type d ON d.typtype = 'd' AND d.typbasetype = t.oid)
SELECT 'operator', o.oprname FROM pg_catalog.pg_operator o JOIN f ON f.oid = o.oprcode WHERE o.oid >= 16384
UNION SELECT 'anywhere', '' FROM k WHERE k.castcontext = 'i' OR k.casttarget < 16384
UNION SELECT 'cast', y.typname FROM t JOIN pg_catalog.pg_type y ON y.oid = t.oid
 ORDER BY 1, 2";

/// What is known of a database's suspects.
#[derive(Default)]
pub(super) struct Watched {
    /// Of which the sources are.
    fingerprint: Option<Vec<Option<String>>>,
    routines: Vec<Routine>,
    edges: Vec<(Edge, String, String)>,
    found: Arc<Suspects>,
    steady: HashSet<String>,
    hidden: Vec<Hidden>,
    volatility: Arc<Volatility>,
}

impl Watched {
    /// Looks again; the same as before where nothing has changed.
    pub(super) async fn look(&mut self, client: &Client) -> Result<Arc<Suspects>, SchemaError> {
        let fingerprint = rows(client, FINGERPRINT).await?;
        let row = fingerprint.first().ok_or(SchemaError::Nonsense("no count of functions"))?;
        let fingerprint = (0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect();
        let hidden = rows(client, HIDDEN).await?.iter().map(hidden).collect::<Result<Vec<_>, _>>()?;
        let is_new = self.fingerprint.as_ref() != Some(&fingerprint);
        if is_new {
            let steady = rows(client, STEADY).await?;
            self.steady = steady.iter().map(|row| text(row, 0)).collect::<Result<_, _>>()?;
        }
        if is_new || self.hidden != hidden {
            self.volatility = Arc::new(Volatility::new(self.steady.clone(), hidden.clone()));
            self.hidden = hidden;
        }
        if is_new {
            self.routines = rows(client, ROUTINES).await?.iter().map(routine).collect::<Result<_, _>>()?;
            self.fingerprint = Some(fingerprint);
            self.edges.clear();
            self.found = Arc::new(Suspects::find(&self.routines, &[]));
        }
        if self.found.is_empty() {
            return Ok(Arc::clone(&self.found));
        }
        let edges = rows(client, EDGES).await?.iter().map(edge).collect::<Result<Vec<_>, _>>()?;
        if self.edges != edges {
            self.found = Arc::new(Suspects::find(&self.routines, &edges));
            self.edges = edges;
        }
        Ok(Arc::clone(&self.found))
    }
}

impl Watched {
    /// What may write by being called, as of the last look.
    pub(super) fn volatility(&self) -> Arc<Volatility> {
        Arc::clone(&self.volatility)
    }
}

async fn rows(client: &Client, query: &str) -> Result<Vec<SimpleQueryRow>, SchemaError> {
    let messages = client.simple_query(query).await?;
    Ok(messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect())
}

fn text(row: &SimpleQueryRow, column: usize) -> Result<String, SchemaError> {
    match row.try_get(column) {
        Ok(Some(text)) => Ok(text.to_owned()),
        Ok(None) | Err(_) => Err(SchemaError::Nonsense("a value of a function is missing")),
    }
}

fn routine(row: &SimpleQueryRow) -> Result<Routine, SchemaError> {
    Ok(Routine {
        name: text(row, 0)?,
        language: text(row, 1)?,
        volatile: text(row, 2)? == "v",
        of_extension: text(row, 3)? == "t",
        takes_row: text(row, 4)? == "t",
        // Dropped by someone since the snapshot was taken.
        source: row.try_get(5).ok().flatten().unwrap_or_default().to_owned(),
    })
}

fn hidden(row: &SimpleQueryRow) -> Result<Hidden, SchemaError> {
    Ok(match text(row, 0)?.as_str() {
        "operator" => Hidden::Operator(text(row, 1)?),
        "cast" => Hidden::CastTo(text(row, 1)?),
        _ => Hidden::Anywhere,
    })
}

fn edge(row: &SimpleQueryRow) -> Result<(Edge, String, String), SchemaError> {
    let edge = match text(row, 0)?.as_str() {
        "reads" => Edge::Reads,
        "writes" => Edge::Writes,
        "calls" => Edge::Calls,
        "view" => Edge::View,
        "passes" => Edge::Passes,
        _ => Edge::Anybody,
    };
    Ok((edge, text(row, 1)?, text(row, 2)?))
}
