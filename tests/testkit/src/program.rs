use std::env;
use std::path::PathBuf;

use anyhow::Context as _;

/// Returns the path of a program of this workspace, built together with the test.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    // Tests are in `deps` and examples in `examples`, next to the programs.
    let own = env::current_exe().context("the path of this program")?;
    let folder = own.ancestors().nth(2).context("this program is in no folder of a build")?;
    let path = folder.join(name);
    anyhow::ensure!(path.is_file(), "{} is missing: run cargo build --workspace --bins", path.display());
    Ok(path)
}

/// Returns the path in `variable`, such as that of a packaged program, or otherwise the program just built.
pub fn packaged_program(variable: &str, name: &str) -> anyhow::Result<PathBuf> {
    env::var_os(variable).map_or_else(|| program(name), |path| Ok(path.into()))
}
