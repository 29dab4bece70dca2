//! This program once more, in a process of its own, for one figure.

use std::{env, process::Command};

use anyhow::{Context as _, Result, bail};

/// Runs this program with these arguments; what it prints is one number.
///
/// # Errors
/// When it fails, with what it said, or prints something else.
pub(crate) fn figure(arguments: &[&str]) -> Result<f64> {
    let text = run(arguments)?;
    let number = text.trim().parse();
    number.with_context(|| format!("not a number: {text}"))
}

/// Runs this program with these arguments, and returns what it prints.
///
/// # Errors
/// When it fails, with what it said.
pub(crate) fn run(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(this_program()?);
    let output = command
        .args(arguments)
        .output()
        .context("running this program again")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Where this program is.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn this_program() -> Result<std::path::PathBuf> {
    env::current_exe().context("where this program is")
}
