//! SQL's `EXECUTE` of what several shards answer: the statement that was prepared, with the arguments
//! as its parameters.

use super::{Asked, Fault, type_bytes};
use crate::error::ClientError;
use crate::ring::ShardId;
use crate::route::Why;
use crate::session::attach::Unattached;
use crate::session::sql_prepared::Executed;
use crate::session::state::Session;
use crate::sql::{Lexed, Shape};
use std::rc::Rc;

/// Types that an integer becomes by assignment, and that read its digits as the same value
/// (`pg_type.dat`, `pg_cast.dat`).
const OF_INTEGERS: [u32; 8] = [20, 21, 23, 25, 700, 701, 1043, 1700];

impl Session {
    /// Answers a `Query` that is an `EXECUTE`, of what these shards answer.
    pub(in crate::session) async fn query_executed(
        &mut self,
        shape: &Rc<Shape>,
        text: &[u8],
        shards: Vec<ShardId>,
        why: Why,
    ) -> Result<(), Unattached> {
        let executed = {
            let worker = Rc::clone(&self.worker);
            let lexed = worker.lexed.borrow();
            self.executed(shape, text, &lexed)?
        };
        let Some(executed) = executed else {
            // Refused there, if it is not explained.
            return self.query_distributed(shape, text, shards, why).await;
        };
        let types = type_bytes(&executed.types);
        let count = u16::try_from(executed.types.len()).unwrap_or(u16::MAX);
        let asked =
            Asked { types: &types, parameters: &executed.parameters, count, ..Asked::simple(&executed.text) };
        if let Err(fault) = Box::pin(self.may_be_bound(&asked, &executed)).await {
            match fault {
                Fault::End(end) => return Err(Unattached::End(end)),
                Fault::Own(error) => return Err(error.into()),
                Fault::Frame(frame) => self.outbox.put(&frame),
            }
            self.refused();
            return self.finish_distributed().await;
        }
        let context = self.context()?;
        let mut lexed = Lexed::default();
        let inner = self.shape_with(&executed.text, &mut lexed, context, self.standard_conforming_strings)?;
        self.run_distributed(&inner, &asked, shards, why).await?;
        self.finish_distributed().await
    }

    /// An argument has a type of its own, which a parameter has not.
    async fn may_be_bound(&mut self, asked: &Asked<'_>, executed: &Executed) -> Result<(), Fault> {
        if executed.integers.is_empty() {
            return Ok(());
        }
        let parameters = self.described_at_home(asked).await?.parameters;
        let reads = |at: &usize| parameters.get(*at).is_some_and(|oid| OF_INTEGERS.contains(oid));
        if executed.integers.iter().all(reads) {
            return Ok(());
        }
        Err(ClientError::refused(
            "an argument of EXECUTE is an integer, and its parameter is of another kind",
            "Write the argument as a string.",
        )
        .into())
    }
}
