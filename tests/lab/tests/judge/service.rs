//! A service as an exercise has one, reduced to what the lab can do with it.

use std::io::BufRead;
use std::process::{Command, ExitCode};

pub fn main(arguments: &[String]) -> ExitCode {
    match arguments.first().map(String::as_str) {
        // Says every line again, with a number, until its input ends.
        Some("echo") => {
            for (n, line) in std::io::stdin()
                .lock()
                .lines()
                .map_while(Result::ok)
                .enumerate()
            {
                println!("{}", serde_json::json!({ "n": n, "line": line }));
            }
            ExitCode::SUCCESS
        }
        // Counts as fast as it can.
        Some("count") => {
            for n in 0u64.. {
                println!("{n}");
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            ExitCode::SUCCESS
        }
        Some("fail") => {
            eprintln!("there is no such stream");
            ExitCode::from(76)
        }
        Some("todo") => todo!("stage 4: claim what others left"),
        // Starts a child that would run for an hour, and says which.
        Some("parent") => {
            let mut child = Command::new("sleep")
                .arg("3600")
                .spawn()
                .expect("sleep is everywhere");
            println!("{}", child.id());
            let _ = child.wait();
            ExitCode::SUCCESS
        }
        Some("settings") => {
            let setting = |name| std::env::var(name).ok();
            println!(
                "{}",
                serde_json::json!([
                    setting("JUDGE_STREAM"),
                    setting("GIVEN"),
                    setting("REDIS_URL")
                ])
            );
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("no such part: {other:?}");
            ExitCode::from(2)
        }
    }
}
