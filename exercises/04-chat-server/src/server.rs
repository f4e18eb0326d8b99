//! One node: the routes, the listener, and what all connections share.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, Query, State, WebSocketUpgrade};
use axum::http::header::{self, HeaderValue};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Error;
use crate::hub::Hub;
use crate::options::Options;
use crate::session;
use crate::stop::{self, Sessions};
use crate::transport::Accepting;

/// What a node did, from its start to its stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections to `/ws` that became sessions.
    pub clients: u64,
    /// Each `say` of those clients that was accepted. Joins, leaves and questions do not count.
    pub messages: u64,
    /// Sessions, those of `/echo` included, that were there at the stop and ended by themselves
    /// before the deadline, whoever closed first.
    pub told_goodbye: u64,
    /// Sessions that were cut at the deadline.
    pub cut: u64,
}

/// What all connections of a node share.
pub struct Server {
    pub options: Arc<Options>,
    /// Who is here, and in which rooms.
    pub hub: Arc<Hub>,
    /// The sessions that are running.
    pub sessions: Sessions,
    /// Cancelled when the node is to stop.
    pub stop: CancellationToken,
}

/// What a client shows when it asks to be let in. Nothing of it has been looked at.
#[derive(Clone)]
pub struct Knock {
    /// `?name=`
    pub name: Option<String>,
    /// `&token=`
    pub token: Option<String>,
    /// The `Origin` header. Browsers send it always, and pages cannot forge it; other programs
    /// usually send none.
    pub origin: Option<String>,
}

/// How long a stopping node waits for answers under way, and for connections that linger.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Serves clients on `listener` until `stop`: the page at `/`, `/healthz`, `/echo` and `/ws`.
///
/// When `stop` is cancelled, nobody is accepted any more, all sessions are closed with 1001, and it
/// returns as soon as they are gone, after `options.stop_deadline` in any case. Dropping the future
/// ends everything at once and says goodbye to nobody, as a killed process does.
///
/// # Errors
/// Only at the start, and only with `options.redis`: [`Error::Connect`] if Redis cannot be reached or
/// does not let us in, [`Error::Redis`] if it is lost right after that.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    stop: CancellationToken,
) -> Result<Summary, Error> {
    let options = Arc::new(options);
    // Ends what runs in the background, however this function ends.
    let over = CancellationToken::new();
    let _over = over.clone().drop_guard();
    let server = Arc::new(Server {
        hub: Hub::start(Arc::clone(&options), over.clone()).await?,
        sessions: Sessions::new(stop.clone(), over),
        options: Arc::clone(&options),
        stop: stop.clone(),
    });
    let lingering = TaskTracker::new();
    let listener = Accepting::new(listener, lingering.clone());
    let accepting = axum::serve(listener, routes(Arc::clone(&server)))
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let mut http = JoinSet::new();
    http.spawn(accepting.into_future());

    stop.cancelled().await;
    let deadline = Instant::now() + options.stop_deadline;
    let summary = stop::finish(&server).await;
    let last_answers = async {
        http.join_next().await;
        lingering.close();
        lingering.wait().await;
    };
    let _ = timeout_at(deadline.min(Instant::now() + LAST_ANSWERS), last_answers).await;
    Ok(summary)
}

/// Finds out whether Redis can be reached, so that a service can say so before it says anything else.
///
/// # Errors
/// [`Error::Connect`] if it cannot, or does not let us in.
pub async fn reach(redis: &str) -> Result<(), Error> {
    crate::store::connect(redis).await.map(drop)
}

fn routes(server: Arc<Server>) -> Router {
    Router::new()
        .route(
            "/",
            get(async || page("text/html", include_str!("page/index.html"))),
        )
        .route(
            "/page.js",
            get(async || page("text/javascript", include_str!("page/page.js"))),
        )
        .route(
            "/page.css",
            get(async || page("text/css", include_str!("page/page.css"))),
        )
        .route("/healthz", get(async || "ok"))
        .route("/echo", any(echo))
        .route("/ws", any(connect))
        .with_state(server)
}

async fn echo(State(server): State<Arc<Server>>, upgrade: WebSocketUpgrade) -> Response {
    session::echo(server, upgrade).await
}

async fn connect(
    State(server): State<Arc<Server>>,
    upgrade: WebSocketUpgrade,
    knock: Knock,
) -> Response {
    session::connect(server, knock, upgrade).await
}

/// A file of the page. It may load its own script and style, and talk to its own server; nothing else.
fn page(kind: &'static str, text: &'static str) -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
        img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let kind = HeaderValue::from_str(&format!("{kind}; charset=utf-8"));
    let mut response = text.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(kind) = kind {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    response
}

impl<S: Sync> FromRequestParts<S> for Knock {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let query = query.map(|Query(pairs)| pairs).unwrap_or_default();
        let first = |wanted| {
            let mut pairs = query.iter();
            pairs.find_map(|(key, value)| (key == wanted).then(|| value.clone()))
        };
        let origin = parts.headers.get(header::ORIGIN);
        Ok(Knock {
            name: first("name"),
            token: first("token"),
            origin: origin.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        })
    }
}
