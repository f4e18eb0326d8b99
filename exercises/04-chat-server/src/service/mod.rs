//! What the service can do, as its command line tells it.

pub mod ending;
mod serve;
mod size;

use std::fmt;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// A chat server over WebSocket: rooms, presence, history, any number of nodes
#[derive(Parser, Debug)]
#[command(
    name = "chat-server",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Print the token of a name
    Token(TokenArgs),
}

#[derive(Args, Debug)]
struct TokenArgs {
    /// The secret that the server was given
    #[arg(long, env = "CHAT_SERVER_TOKEN_SECRET", hide_env_values = true)]
    token_secret: Secret,
    /// Whose token
    name: String,
}

/// A text that is never shown.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Secret(text.to_owned())
    }
}

/// Runs a command to its end. An error is for [`ending::report`].
pub async fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Some(Command::Token(args)) => {
            println!("{}", chat_server::token(&args.token_secret.0, &args.name));
            Ok(ExitCode::SUCCESS)
        }
        None => serve::run(cli.serve).await,
    }
}
