//! `arx-sidecar session`: opens, checks and revokes sessions of users. Tokens come on standard
//! input: arguments are visible to all users of the machine.

use std::io::Read;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output::print_line;
use super::{CommandError, exit_code};
use crate::cache::Sessions;
use crate::error::SidecarError;
use crate::escape::Inline;
use crate::settings::Settings;

/// Longest text that is read for a token.
const MAX_TOKEN: u64 = 1024;

#[derive(Debug, Subcommand)]
pub(super) enum SessionCommand {
    /// Open a session of an active user, whom the caller has authenticated, and print its token
    Open {
        /// Email address of the user
        email: String,
    },
    /// Extend the session whose token is on standard input; status 1 if it does not exist
    Check,
    /// End the session whose token is on standard input, or all sessions of a user; status 1 if
    /// no session existed
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// Email address of the user whose sessions end
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
}

impl SessionCommand {
    pub(super) async fn run(self, settings: &Settings) -> Result<ExitCode, CommandError> {
        let sessions = Sessions::connect(settings).await?;
        match self {
            Self::Open { email } => {
                let token = sessions.open(&email).await?;
                print_line(token)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Check => match sessions.check(&token()?).await? {
                Some(session) => {
                    print_line(format_args!(
                        "{} {}, {} s left",
                        session.user,
                        Inline(&session.email),
                        session.remaining.as_secs()
                    ))?;
                    Ok(ExitCode::SUCCESS)
                }
                None => {
                    print_line("no session")?;
                    Ok(ExitCode::FAILURE)
                }
            },
            Self::Revoke(RevokeArgs { user }) => {
                let is_revoked = match user {
                    Some(email) => sessions.revoke_all(&email).await?,
                    None => sessions.revoke(&token()?).await?,
                };
                print_line(if is_revoked { "revoked" } else { "no session" })?;
                Ok(exit_code(is_revoked))
            }
        }
    }
}

fn token() -> Result<String, SidecarError> {
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_TOKEN)
        .read_to_string(&mut text)
        .map_err(|_| SidecarError::Input { detail: "standard input contains no token".into() })?;
    Ok(text)
}
