//! The command line: the arguments, and the commands besides `run`.

pub mod allow;
pub mod args;
pub mod doctor;
pub mod generate;
