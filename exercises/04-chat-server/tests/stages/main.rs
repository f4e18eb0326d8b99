//! The checks of exercise 04, stage by stage.

fn main() -> std::process::ExitCode {
    lab::Suite::new("chat-server", env!("CARGO_BIN_EXE_chat-server")).main()
}
