//! Connections to Redis.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisResult};

/// How long connecting may take, name lookup and greeting included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Opens a connection and says hello. No response timeout is for commands that block.
///
/// # Errors
/// What the client library reports: the address is not one, nobody answers within three seconds, or
/// the credentials are refused.
pub async fn open(
    url: &str,
    response_timeout: Option<Duration>,
) -> RedisResult<MultiplexedConnection> {
    // Small commands must not wait for the acknowledgement of the ones before.
    let tcp = TcpSettings::default().set_nodelay(true);
    let address = url.into_connection_info()?;
    let client = Client::open(address.set_tcp_settings(tcp))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(response_timeout);
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    // A Redis that wants a password greets anybody, and refuses the first command: this one.
    let greeting = redis::cmd("PING");
    let answer = greeting.query_async::<()>(&mut connection);
    match tokio::time::timeout(CONNECT_TIMEOUT, answer).await {
        Ok(answer) => answer?,
        Err(_) => {
            let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to PING");
            return Err(silent.into());
        }
    }
    Ok(connection)
}

/// The address as it may appear in a message: `redis://user:***@host`.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    // The last `@`: a password may contain one, and a slash too.
    let Some(at) = rest.rfind('@') else {
        return url.to_owned();
    };
    let user = rest[..at].split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:***{}", &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2"),
            ("redis://:s3cret@host:1", "redis://:***@host:1"),
            ("redis://me:s3:c@r/t@host/0", "redis://me:***@host/0"),
            ("not an address", "not an address"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
