//! What a client has asked, and how servers are asked for it.

use super::portion::Keep;
use crate::backend::Server;
use crate::execute::Branch;
use crate::merge::row;
use crate::session::prepared::Prepared;
use crate::sql::distribute::CopyOut;
use crate::wire::{self, BodyError, Buffer, Format};
use std::rc::Rc;

/// A statement as it came, with its parameters.
pub(in crate::session) struct Asked<'a> {
    /// The client's text.
    pub text: &'a [u8],
    /// The parameter types that its `Parse` declared: OIDs of 4 bytes each.
    pub types: &'a [u8],
    /// Formats and parameters as a `Bind` has them.
    pub parameters: &'a [u8],
    /// How many parameters there are.
    pub count: u16,
    /// The formats that results are wanted in: none, one for all, or one for each.
    pub formats: Vec<Format>,
    /// The client wants a `RowDescription`: a `Query` does.
    pub describes: bool,
    /// It is the query of this.
    pub copy: Option<&'a CopyOut>,
    /// The statement that the client has prepared.
    pub prepared: Option<&'a Rc<Prepared>>,
    /// Where the answer is put that is asked for in portions.
    pub(super) keep: Option<&'a Keep>,
}

impl<'a> Asked<'a> {
    /// By a `Query`.
    pub(in crate::session) fn simple(text: &'a [u8]) -> Asked<'a> {
        let parameters = &[0, 0, 0, 0];
        Asked {
            text,
            types: &[],
            parameters,
            count: 0,
            formats: Vec::new(),
            describes: true,
            copy: None,
            prepared: None,
            keep: None,
        }
    }

    /// By a `Bind`; `rest` is what stands behind its names.
    pub(in crate::session) fn bound(
        text: &'a [u8],
        types: &'a [u8],
        rest: &'a [u8],
    ) -> Result<Asked<'a>, BodyError> {
        let formats = wire::result_formats(rest)?;
        let tail = 2 + 2 * formats.len();
        let parameters = rest.len().checked_sub(tail).map(|len| &rest[..len]).ok_or(BodyError("Bind"))?;
        let count = wire::bind_parameter_count(rest);
        Ok(Asked {
            text,
            types,
            parameters,
            count,
            formats,
            describes: false,
            copy: None,
            prepared: None,
            keep: None,
        })
    }

    /// The same of another text, whose rows are not described.
    pub(super) fn with_text<'b>(&self, text: &'b [u8]) -> Asked<'b>
    where
        'a: 'b,
    {
        let (types, parameters, formats) = (self.types, self.parameters, self.formats.clone());
        Asked {
            text,
            types,
            parameters,
            count: self.count,
            formats,
            describes: false,
            copy: None,
            prepared: None,
            keep: None,
        }
    }

    /// A `Bind`'s bytes behind its names: the client's parameters, then these in binary format.
    /// `None`: what the client has sent cannot be read.
    pub(super) fn bound_with(&self, more: &[Vec<u8>]) -> Option<Buffer> {
        let given = usize::from(u16::from_be_bytes(*self.parameters.first_chunk()?));
        let formats = self.parameters.get(2..2 + 2 * given)?;
        let values = self.parameters.get(4 + 2 * given..)?;
        let count = usize::from(self.count);
        let mut bound = Buffer::new();
        bound.put(&u16::try_from(count + more.len()).ok()?.to_be_bytes());
        for at in 0..count {
            bound.put(match given {
                0 => &[0, 0],
                1 => formats,
                _ => formats.get(2 * at..2 * at + 2)?,
            });
        }
        more.iter().for_each(|_| bound.put(&[0, 1]));
        bound.put(&u16::try_from(count + more.len()).ok()?.to_be_bytes());
        bound.put(values);
        for value in more {
            bound.put(&i32::try_from(value.len()).ok()?.to_be_bytes());
            bound.put(value);
        }
        put_formats(&mut bound, self.formats.iter().copied());
        Some(bound)
    }

    /// The format of a result's column.
    pub(in crate::session) fn format(&self, column: usize) -> Format {
        self.formats.get(column).or(self.formats.first()).copied().unwrap_or(Format::Text)
    }

    /// A parameter's value; `None` is NULL, or that there is none.
    pub(in crate::session) fn parameter(&self, number: u16) -> Option<(&'a [u8], Format)> {
        let formats = usize::from(u16::from_be_bytes(*self.parameters.first_chunk()?));
        let values = self.parameters.get(2 + 2 * formats..)?;
        let at = usize::from(number.checked_sub(1)?);
        let value = row::values(values).ok()?.nth(at)?.ok()??;
        let format = match formats {
            0 => 0,
            1 => self.parameters[3],
            _ => *self.parameters.get(3 + 2 * at)?,
        };
        Some((value, if format == 1 { Format::Binary } else { Format::Text }))
    }
}

/// Result formats as a `Bind` has them.
pub(super) fn put_formats(out: &mut Buffer, formats: impl ExactSizeIterator<Item = Format>) {
    out.put(&u16::try_from(formats.len()).unwrap_or(u16::MAX).to_be_bytes());
    for format in formats {
        out.put(&[0, u8::from(format == Format::Binary)]);
    }
}

/// OIDs as a `Parse` has them.
pub(super) fn type_bytes(oids: &[u32]) -> Vec<u8> {
    oids.iter().flat_map(|oid| oid.to_be_bytes()).collect()
}

/// A server that is being asked. What is asked ends with [`Asking::sync`].
pub(super) struct Asking<'s> {
    pub(super) server: &'s mut Server,
    hidden: usize,
}

impl<'s> Asking<'s> {
    pub(super) fn new(server: &'s mut Server) -> Asking<'s> {
        // Whatever is parsed here is the unnamed statement.
        server.unnamed = 0;
        Asking { server, hidden: 0 }
    }

    /// A statement whose answer nobody is to see.
    pub(super) fn hidden(&mut self, statement: &str) -> &mut Self {
        let out = &mut self.server.outbox;
        wire::put_parse(out, b"", statement.as_bytes(), &[]);
        wire::put_bind_plain(out, b"", b"");
        wire::put_execute(out, b"");
        self.hidden += 1;
        self
    }

    /// Parses, and describes the statement.
    pub(super) fn describe(&mut self, sql: &[u8], types: &[u8]) -> &mut Self {
        self.server.put_parse(b"", sql, types);
        let out = &mut self.server.outbox;
        wire::put_describe_statement(out, b"");
        self
    }

    /// Parses, binds and executes. `bound` writes what stands behind the names in the `Bind`.
    pub(super) fn execute(&mut self, sql: &[u8], types: &[u8], bound: &Buffer) -> &mut Self {
        self.server.put_parse(b"", sql, types);
        let out = &mut self.server.outbox;
        wire::put_bind_head(out, b"", b"", bound.len());
        out.put(bound.filled());
        wire::put_execute(out, b"");
        self
    }

    /// As [`Asking::execute`]; the result is described before its first row.
    pub(super) fn execute_described(&mut self, sql: &[u8], types: &[u8], bound: &Buffer) -> &mut Self {
        self.server.put_parse(b"", sql, types);
        let out = &mut self.server.outbox;
        wire::put_bind_head(out, b"", b"", bound.len());
        out.put(bound.filled());
        wire::put_describe_portal(out, b"");
        wire::put_execute(out, b"");
        self
    }

    /// As [`Asking::execute`], of a `COPY … FROM STDIN`; its end is still to be sent.
    pub(super) fn copy_in(&mut self, sql: &[u8], types: &[u8], bound: &Buffer, branch: &mut Branch) {
        self.execute(sql, types, bound);
        branch.again(self.hidden);
        branch.feeds = true;
    }

    /// Parses, and binds to a portal that stays.
    pub(super) fn open_portal(
        &mut self,
        portal: &str,
        sql: &[u8],
        types: &[u8],
        bound: &Buffer,
    ) -> &mut Self {
        self.server.put_parse(b"", sql, types);
        let out = &mut self.server.outbox;
        wire::put_bind_head(out, portal.as_bytes(), b"", bound.len());
        out.put(bound.filled());
        self
    }

    /// Has such a portal yield so many rows.
    pub(super) fn execute_portal(&mut self, portal: &str, rows: u32) -> &mut Self {
        wire::put_frame(&mut self.server.outbox, b'E', |out| {
            wire::put_cstr(out, portal.as_bytes());
            out.put(&rows.to_be_bytes());
        });
        self
    }

    /// Closes such a portal.
    pub(super) fn close_portal(&mut self, portal: &str) -> &mut Self {
        wire::put_close_portal(&mut self.server.outbox, portal.as_bytes());
        self
    }

    /// The end of what is asked; how the answer begins.
    pub(super) fn sync(&mut self, branch: &mut Branch) {
        wire::put_sync(&mut self.server.outbox);
        branch.again(self.hidden);
    }
}
