//! The command line: the arguments, and all commands except `run`.

pub mod allow;
pub(crate) mod args;
pub mod check;
pub mod doctor;
pub mod generate;
pub(crate) mod output;
pub mod status;
pub mod top;
