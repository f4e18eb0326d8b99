// Stub 485afd2d3b6cc7b8: this file is yours to write. `cargo xtask reset job-scheduler` starts it again.
// Delete the next line once no `todo!` is left, and the compiler tells you what is left over.
#![allow(unused)]

//! Who leads: one node at a time, for as long as it gives signs of life.

use std::time::Duration;

use crate::error::Error;
use crate::names::Names;
use crate::term::Term;

/// The lease of the leader, as one node sees it. Cheap to clone.
///
/// It is the key [`P:leader`](Names::leader) in Redis, which goes away by itself when nobody renews it; its
/// value is the [`Term`] as text. Redis alone decides who leads: its clock counts, and no node's.
#[derive(Debug, Clone)]
pub struct Lease {}

impl Lease {
    /// The lease for the node `node`; whoever has it leads for `length`, in milliseconds and at least one,
    /// after its last sign of life.
    ///
    /// # Errors
    /// [`Error::Redis`] if Redis cannot be reached or does not let us in.
    pub async fn connect(
        redis: &str,
        names: &Names,
        node: &str,
        length: Duration,
    ) -> Result<Lease, Error> {
        todo!("stage 4: connect, and remember the rest")
    }

    /// Takes the lease, if nobody has it: not this node either. The new term's token is one more than the
    /// last that was given out ([`P:token`](Names::token)), and nothing is given out to those who come too
    /// late. All of it is one atomic step.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away. Then it may have been taken all the same; it
    /// ends by itself.
    pub async fn acquire(&self) -> Result<Option<Term>, Error> {
        todo!("stage 4: one script: EXISTS, INCR, SET … PX")
    }

    /// Makes the lease last for its whole length from now on, if this term still has it. One that has
    /// ended is not taken again, even if nobody else has it. Returns whether the term goes on.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away.
    pub async fn renew(&self, term: &Term) -> Result<bool, Error> {
        todo!("stage 4: one script: is the value ours? PEXPIRE")
    }

    /// Gives the lease up, if this term still has it: another node may take it at once. Returns whether
    /// this term had it.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away.
    pub async fn release(&self, term: &Term) -> Result<bool, Error> {
        todo!("stage 4: one script: is the value ours? DEL")
    }

    /// The term that goes on now, whoever has it.
    ///
    /// # Errors
    /// [`Error::Store`] or [`Error::Redis`] if Redis is away, [`Error::BadRecord`] if what is there is no
    /// term.
    pub async fn holder(&self) -> Result<Option<Term>, Error> {
        todo!("stage 4: one GET")
    }
}
