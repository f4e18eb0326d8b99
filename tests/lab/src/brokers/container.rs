//! Brokers in containers, through testcontainers.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{HostConfig, PortBinding};
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{ContainerPort, IntoContainerPort};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};

use super::health;

/// The pinned image of Redis: name and tag.
pub const REDIS_IMAGE: (&str, &str) = ("redis", "7.0.15");
/// The pinned image of RabbitMQ: name and tag.
pub const AMQP_IMAGE: (&str, &str) = ("rabbitmq", "3.10.8");

const REDIS_PORT: u16 = 6379;
const AMQP_PORT: u16 = 5672;

/// How long an engine may take to say that it is there.
const ENGINE_LIMIT: Duration = Duration::from_secs(5);
/// How long pulling an image may take. On a slow line it is worth it, once.
const PULL_LIMIT: Duration = Duration::from_secs(600);

/// A broker in a container of ours. [`remove`](Self::remove) it: dropping it does so too, but
/// waits for nothing.
pub(crate) struct ContainerBroker {
    container: Box<ContainerAsync<GenericImage>>,
    address: String,
}

/// Why there is no container.
pub(crate) enum NoContainer {
    /// No engine answers.
    Engine(String),
    /// The image is not there and cannot be pulled.
    Image(String),
    /// It was started and does not answer.
    Broken(String),
}

/// How a Redis in a container is to run.
pub(crate) struct RedisSettings<'a> {
    pub(crate) labels: &'a [(String, String)],
    /// The port on this machine, if it must stay the same when the container is started again.
    pub(crate) port: Option<u16>,
    /// True if what it holds is to survive SIGKILL.
    pub(crate) durable: bool,
    pub(crate) limit: Duration,
}

impl ContainerBroker {
    /// Starts Redis and waits until it answers.
    pub(crate) async fn redis(settings: RedisSettings<'_>) -> Result<Self, NoContainer> {
        // The words begin with an option: then the official image's entry point puts the
        // program in front, and an image whose entry point is the program takes them as they are.
        let mut words = vec![
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--appendonly",
        ];
        words.push(if settings.durable { "yes" } else { "no" });
        if settings.durable {
            words.extend(["--appendfsync", "always", "--dir", "/tmp"]);
        }
        let image =
            GenericImage::new(REDIS_IMAGE.0, REDIS_IMAGE.1).with_exposed_port(REDIS_PORT.tcp());
        let request = ImageExt::with_cmd(image, words);
        let broker = start(request, REDIS_PORT, settings.port, settings.labels).await?;
        broker
            .redis_ready(settings.limit)
            .await
            .map_err(NoContainer::Broken)?;
        Ok(broker)
    }

    /// Starts RabbitMQ and waits until it answers.
    pub(crate) async fn amqp(
        labels: &[(String, String)],
        limit: Duration,
    ) -> Result<Self, NoContainer> {
        Self::amqp_at(labels, None, limit).await
    }

    /// The same on this port of this machine, where it stays if it is started again.
    pub(crate) async fn amqp_at(
        labels: &[(String, String)],
        port: Option<u16>,
        limit: Duration,
    ) -> Result<Self, NoContainer> {
        let image =
            GenericImage::new(AMQP_IMAGE.0, AMQP_IMAGE.1).with_exposed_port(AMQP_PORT.tcp());
        let broker = start(image.into(), AMQP_PORT, port, labels).await?;
        broker
            .amqp_ready(limit)
            .await
            .map_err(NoContainer::Broken)?;
        Ok(broker)
    }

    pub(crate) async fn amqp_ready(&self, limit: Duration) -> Result<(), String> {
        poll(limit, || {
            health::amqp_answers(&self.address, Duration::from_secs(2))
        })
        .await
    }

    pub(crate) fn redis_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    pub(crate) async fn redis_ready(&self, limit: Duration) -> Result<(), String> {
        let url = self.redis_url();
        poll(limit, || {
            health::redis_answers(&url, Duration::from_secs(1))
        })
        .await
    }

    /// SIGKILL. The container stays, with its files.
    pub(crate) async fn kill(&self) -> Result<(), String> {
        let docker = docker_client_instance()
            .await
            .map_err(|error| chain(&error))?;
        docker
            .kill_container(self.container.id(), None)
            .await
            .map_err(|error| chain(&error))?;
        // The engine answers before the process is gone.
        poll(ENGINE_LIMIT, || async {
            match self.container.is_running().await {
                Ok(false) => Ok(()),
                Ok(true) => Err("it still runs".to_owned()),
                Err(error) => Err(chain(&error)),
            }
        })
        .await
    }

    /// SIGTERM, and SIGKILL for what has not ended in time. The container stays, with its files.
    pub(crate) async fn stop(&self) -> Result<(), String> {
        self.container.stop().await.map_err(|error| chain(&error))
    }

    pub(crate) async fn start_again(&self) -> Result<(), String> {
        self.container.start().await.map_err(|error| chain(&error))
    }

    pub(crate) async fn pause(&self) -> Result<(), String> {
        self.container.pause().await.map_err(|error| chain(&error))
    }

    pub(crate) async fn resume(&self) -> Result<(), String> {
        self.container
            .unpause()
            .await
            .map_err(|error| chain(&error))
    }

    /// Removes the container and waits until that is done.
    pub(crate) async fn remove(self) {
        // What cannot be removed now is swept later, by its labels.
        let _ = self.container.rm().await;
    }
}

async fn start(
    request: ContainerRequest<GenericImage>,
    inside: u16,
    outside: Option<u16>,
    labels: &[(String, String)],
) -> Result<ContainerBroker, NoContainer> {
    engine().await.map_err(NoContainer::Engine)?;
    let local = engine_is_local();
    let request = request
        .with_labels(labels.iter().cloned())
        .with_startup_timeout(PULL_LIMIT)
        .with_host_config_modifier(move |host| publish(host, inside, outside, local));
    let container = request
        .start()
        .await
        .map_err(|error| NoContainer::Image(chain(&error)))?;
    let address = async {
        let host = container.get_host().await?;
        let port = container
            .get_host_port_ipv4(ContainerPort::Tcp(inside))
            .await?;
        Ok::<_, testcontainers::TestcontainersError>(format!("{host}:{port}"))
    };
    let address = address
        .await
        .map_err(|error| NoContainer::Broken(chain(&error)))?;
    Ok(ContainerBroker {
        container: Box::new(container),
        address,
    })
}

/// Publishes the broker's port. A broker without a password has no business on the network:
/// where the engine runs on this machine only the loopback interface gets it.
fn publish(host: &mut HostConfig, inside: u16, outside: Option<u16>, local: bool) {
    let binding = PortBinding {
        host_ip: local.then(|| "127.0.0.1".to_owned()),
        host_port: Some(outside.map_or_else(String::new, |port| port.to_string())),
    };
    host.publish_all_ports = Some(false);
    host.port_bindings = Some(HashMap::from([(
        format!("{inside}/tcp"),
        Some(vec![binding]),
    )]));
}

/// True if ports that the engine publishes on loopback can be reached from here.
fn engine_is_local() -> bool {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let through_socket = host.is_empty() || host.starts_with("unix://");
    through_socket && !std::path::Path::new("/.dockerenv").exists()
}

/// An engine that answers.
async fn engine() -> Result<Docker, String> {
    let docker = docker_client_instance()
        .await
        .map_err(|error| chain(&error))?;
    match tokio::time::timeout(ENGINE_LIMIT, docker.ping()).await {
        Ok(Ok(_)) => Ok(docker),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!(
            "the engine did not answer within {ENGINE_LIMIT:.0?}"
        )),
    }
}

/// Removes every container that carries the label `name`, and for which `condemned` says so
/// when it is given all its labels.
pub(crate) async fn remove_labelled<F>(name: &str, condemned: F) -> Result<(), String>
where
    F: Fn(&HashMap<String, String>) -> bool,
{
    let docker = engine().await?;
    let filter = HashMap::from([("label", vec![name])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filter)
        .build();
    let found = docker
        .list_containers(Some(options))
        .await
        .map_err(|error| chain(&error))?;
    for container in found {
        let (Some(id), Some(labels)) = (container.id, container.labels) else {
            continue;
        };
        if condemned(&labels) {
            let options = RemoveContainerOptionsBuilder::default()
                .force(true)
                .v(true)
                .build();
            // Somebody else may remove it at the same moment.
            let _ = docker.remove_container(&id, Some(options)).await;
        }
    }
    Ok(())
}

async fn poll<T, F, Fut>(limit: Duration, mut ask: F) -> Result<(), String>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let start = tokio::time::Instant::now();
    loop {
        match ask().await {
            Ok(_) => return Ok(()),
            Err(why) if start.elapsed() > limit => return Err(why),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// An error with its causes, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
