//! Commands that need no daemon: man pages and completions, made from the table of commands.

use super::{Failure, cli, out};
use clap::ValueEnum;
use clap_complete::Shell;
use std::path::Path;
use std::process::ExitCode;

/// `completion SHELL`, `man DIRECTORY`.
pub fn run(words: &[String]) -> Result<ExitCode, Failure> {
    match words {
        [command, shell] if command == "completion" => {
            let Ok(shell) = Shell::from_str(shell, false) else {
                return Failure::usage(format!(
                    "completion: found {shell:?}, expected bash, elvish, fish, powershell or zsh"
                ));
            };
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut cli::whole(), "vxctl", &mut text);
            out(&String::from_utf8_lossy(&text))?;
        }
        [command, directory] if command == "man" => {
            let whole = cli::whole().disable_help_subcommand(true);
            clap_mangen::generate_to(whole, Path::new(directory))
                .map_err(|error| Failure::File(directory.clone(), error))?;
        }
        _ => return Failure::usage("expected completion SHELL or man DIRECTORY"),
    }
    Ok(ExitCode::SUCCESS)
}
