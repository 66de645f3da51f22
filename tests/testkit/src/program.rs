use std::env;
use std::path::PathBuf;

use anyhow::Context as _;

/// Returns the path of a program of this workspace, which the same build has made.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    // A test is in `deps` and an example in `examples`, next to the programs.
    let own = env::current_exe().context("the path of this program")?;
    let folder = own.ancestors().nth(2).context("this program is in no folder of a build")?;
    let path = folder.join(name);
    anyhow::ensure!(path.is_file(), "{} is missing: run cargo build --workspace --bins", path.display());
    Ok(path)
}

/// Returns the path that `variable` names, such as that of a program as it is packaged, or else the one just built.
pub fn packaged_program(variable: &str, name: &str) -> anyhow::Result<PathBuf> {
    env::var_os(variable).map_or_else(|| program(name), |path| Ok(path.into()))
}
