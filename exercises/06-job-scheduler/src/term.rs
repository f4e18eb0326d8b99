//! A time of office: who leads, and with which token.

use std::fmt;
use std::str::FromStr;

/// One time of office of one node. Its token is greater than that of every one before.
///
/// As text it is the value of the lease in Redis: `NODE TOKEN`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    /// The node that leads.
    pub node: String,
    /// The fencing token, from 1.
    pub token: u64,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.node, self.token)
    }
}

impl FromStr for Term {
    type Err = ();

    fn from_str(text: &str) -> Result<Term, ()> {
        let (node, token) = text.rsplit_once(' ').ok_or(())?;
        Ok(Term {
            node: node.to_owned(),
            token: token.parse().map_err(|_| ())?,
        })
    }
}
