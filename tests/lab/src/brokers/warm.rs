//! Brokers that stay up between runs: what `cargo xtask brokers` is about.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::keeper::{self, Brokers};
use super::ladder::Broker;
use super::{Served, Unavailable, Wanted, health, sweep};
use crate::state_directory;

/// How long the keeper may take to clean up.
const CLEANUP: Duration = Duration::from_secs(30);

/// Warm brokers and who keeps them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Warm {
    /// The keeper's process id.
    pub pid: u32,
    brokers: Brokers,
}

impl Warm {
    /// Redis, if it is among them.
    pub fn redis(&self) -> Option<&Served> {
        self.brokers.redis.as_ref()
    }

    /// RabbitMQ, if it is among them.
    pub fn amqp(&self) -> Option<&Served> {
        self.brokers.amqp.as_ref()
    }

    /// Each broker by name.
    pub fn all(&self) -> Vec<(&'static str, &Served)> {
        let redis = self.redis().map(|served| (Broker::Redis.name(), served));
        let amqp = self.amqp().map(|served| (Broker::Amqp.name(), served));
        redis.into_iter().chain(amqp).collect()
    }
}

/// Starts brokers that stay until [`down`]. Warm ones that answer are kept as they are; if one of
/// those wanted is missing, all are started anew.
///
/// # Errors
/// [`Unavailable`] when one cannot be had. Should the file that says where they are not be
/// writable, they are stopped again and that is the error.
pub async fn up(wanted: Wanted) -> Result<Warm, Unavailable> {
    if let Some(warm) = status().await {
        // Browsers are not among them: they start when they are needed, and in a second.
        let there =
            (!wanted.redis || warm.redis().is_some()) && (!wanted.amqp || warm.amqp().is_some());
        if there {
            return Ok(warm);
        }
    }
    let _ = down();
    let (pid, brokers) = keeper::detach(wanted).await?;
    let warm = Warm { pid, brokers };
    if let Err(error) = write(&warm) {
        end(&warm);
        return Err(Unavailable {
            broker: "warm broker".into(),
            tried: vec![super::Attempt {
                way: format!("writing {}", file().display()),
                why: error.to_string(),
                mend: None,
            }],
        });
    }
    Ok(warm)
}

/// Stops the warm brokers. False if there were none.
///
/// # Errors
/// When the file that names them cannot be removed.
pub fn down() -> io::Result<bool> {
    let Some(warm) = read() else {
        return Ok(false);
    };
    let lived = is_alive(&warm);
    if lived {
        end(&warm);
    }
    fs::remove_file(file())?;
    Ok(lived)
}

/// The warm brokers, as far as they answer; `None` if none does.
pub async fn status() -> Option<Warm> {
    let mut warm = read().filter(is_alive)?;
    warm.brokers.redis = answering(Broker::Redis).await;
    warm.brokers.amqp = answering(Broker::Amqp).await;
    (warm.redis().is_some() || warm.amqp().is_some()).then_some(warm)
}

/// The warm broker of this kind, if it answers.
pub(super) async fn answering(broker: Broker) -> Option<Served> {
    let warm = read().filter(is_alive)?;
    let limit = Duration::from_secs(2).mul_f64(crate::patience());
    let served = match broker {
        Broker::Redis => {
            let served = warm.brokers.redis?;
            health::redis_answers(&served.url, limit).await.ok()?;
            served
        }
        Broker::Amqp => {
            let served = warm.brokers.amqp?;
            let address = super::url::address_of(&served.url)?;
            health::amqp_answers(&address, limit).await.ok()?;
            served
        }
    };
    Some(Served {
        warm: true,
        ..served
    })
}

fn file() -> PathBuf {
    state_directory().join("brokers.json")
}

fn read() -> Option<Warm> {
    serde_json::from_slice(&fs::read(file()).ok()?).ok()
}

fn write(warm: &Warm) -> io::Result<()> {
    fs::create_dir_all(state_directory())?;
    fs::write(file(), serde_json::to_vec_pretty(warm)?)
}

/// The lock on its directory tells whether this very keeper lives; its number alone could by now
/// belong to another process.
fn is_alive(warm: &Warm) -> bool {
    warm.brokers.home.exists() && !sweep::is_abandoned(&warm.brokers.home)
}

fn end(warm: &Warm) {
    let Ok(pid) = i32::try_from(warm.pid) else {
        return;
    };
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    let start = Instant::now();
    while is_alive(warm) && start.elapsed() < CLEANUP {
        std::thread::sleep(Duration::from_millis(10));
    }
}
