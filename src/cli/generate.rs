//! `trailgate generate`: man pages and shell completions, generated from the command line's own types.
//!
//! The program generates them itself for packages, so they always match its version. A build script would have to
//! compile the types and `clap` a second time.

use std::fs;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::args::{Cli, Generate};

/// Writes the files into the given folder, which is created if it does not exist.
pub fn run(generate: &Generate) -> anyhow::Result<()> {
    let (Generate::Man { folder } | Generate::Completions { folder }) = generate;
    let mut command = Cli::command();
    let write = || {
        fs::create_dir_all(folder)?;
        match generate {
            Generate::Man { .. } => clap_mangen::generate_to(command, folder),
            Generate::Completions { .. } => [Shell::Bash, Shell::Zsh, Shell::Fish].into_iter().try_for_each(|shell| {
                clap_complete::generate_to(shell, &mut command, env!("CARGO_PKG_NAME"), folder).map(drop)
            }),
        }
    };
    write().with_context(|| format!("{}: cannot be written to", folder.display()))
}
