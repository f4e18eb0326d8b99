//! The runner, end to end: good, wrong, broken and hostile candidates, broken machines, and what is
//! left behind afterwards.

mod candidates;
mod clean;
mod commands;
mod machine;
