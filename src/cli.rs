//! The command line: the arguments, and the commands besides `run`.

pub mod allow;
pub(crate) mod args;
pub mod check;
pub mod doctor;
pub mod generate;
pub(crate) mod output;
pub mod status;
