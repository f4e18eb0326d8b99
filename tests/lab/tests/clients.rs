//! The HTTP client and the SSE client against a server that sends exactly what the test wants.

use std::net::SocketAddr;
use std::time::Duration;

use lab::clients::http::{Client, HttpError, Request};
use lab::clients::sse::{Event, Item, OpenError, Parser, Stream};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const LIMIT: Duration = Duration::from_secs(20);

/// A server for one connection: `script` gets it once the head of a request has come, and that head.
async fn server<F, Fut>(script: F) -> (Client, JoinHandle<()>)
where
    F: FnOnce(TcpStream, String) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let head = head(&mut connection).await;
        script(connection, head).await;
    });
    (Client::new(addr, LIMIT), task)
}

async fn head(connection: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(connection.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// A server that answers with these bytes and closes.
async fn answering(bytes: &'static [u8]) -> Client {
    let script = move |mut connection: TcpStream, _| async move {
        connection.write_all(bytes).await.unwrap();
    };
    server(script).await.0
}

#[tokio::test]
async fn a_request_goes_out_as_it_was_made() {
    let (client, task) = server(|mut connection, head| async move {
        assert!(head.starts_with("PUT /a?b=c HTTP/1.1\r\n"), "{head}");
        for line in [
            "x-one: 1",
            "X-One: 2",
            "content-length: 4",
            "authorization: Bearer t",
        ] {
            assert!(
                head.contains(&format!("\r\n{line}\r\n")),
                "{line} in {head}"
            );
        }
        let mut body = [0; 4];
        connection.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"\0\r\n\xff");
        connection
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            .await
            .unwrap();
        connection
            .write_all(b"HTTP/1.1 201 Made\r\nA: b\r\ncontent-length: 2\r\n\r\n{}")
            .await
            .unwrap();
    })
    .await;
    let request = Request::new("PUT", "/a?b=c")
        .header("x-one", "1")
        .header("X-One", "2")
        .bearer("t")
        .body(b"\0\r\n\xff");
    let response = client.request(&request).await.unwrap();
    assert_eq!((response.status, &*response.head.reason), (201, "Made"));
    assert_eq!(response.header("a"), Some("b"));
    assert_eq!(response.json(), Some(serde_json::json!({})));
    task.await.unwrap();
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (client, _task) = server(|mut connection, first| async move {
        assert!(first.starts_with("HEAD /1"));
        // An answer to HEAD has a length and no body.
        connection
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n")
            .await
            .unwrap();
        assert!(head(&mut connection).await.starts_with("GET /2"));
        connection
            .write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            )
            .await
            .unwrap();
        assert!(head(&mut connection).await.starts_with("GET /3"));
        connection
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
    })
    .await;
    let mut connection = client.connect().await.unwrap();
    let first = connection
        .request(&Request::new("HEAD", "/1"))
        .await
        .unwrap();
    assert_eq!((first.status, first.body.len()), (200, 0));
    let second = connection.request(&Request::get("/2")).await.unwrap();
    assert_eq!(second.text(), "abc");
    assert_eq!(
        connection
            .request(&Request::get("/3"))
            .await
            .unwrap()
            .status,
        204
    );
    assert!(
        connection
            .raw()
            .ends_with(b"HTTP/1.1 204 No Content\r\n\r\n")
    );
    assert_eq!(connection.raw().len() as u64, connection.received());
    connection.closed().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let error = answering(b"")
        .await
        .request(&Request::get("/"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, HttpError::Ended { after: 0, .. }),
        "{error}"
    );
    let error = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc").await;
    let error = error.request(&Request::get("/")).await.unwrap_err();
    assert!(
        matches!(error, HttpError::Ended { after: 41, .. }),
        "{error}"
    );
    let error =
        answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    let error = error.request(&Request::get("/")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server closed the connection while the client was waiting for a chunk, after 55 bytes"
    );
    let error = answering(b"SSH-2.0-OpenSSH\r\n").await;
    let error = error.request(&Request::get("/")).await.unwrap_err();
    assert!(matches!(error, HttpError::Malformed { .. }), "{error}");

    let silent = server(|connection, _| async move {
        tokio::time::sleep(LIMIT).await;
        drop(connection);
    });
    let (client, _task) = silent.await;
    let patient = Client::new(client.addr(), Duration::from_millis(50));
    let error = patient.request(&Request::get("/")).await.unwrap_err();
    assert!(matches!(error, HttpError::Silent { .. }), "{error}");

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = nobody.local_addr().unwrap();
    drop(nobody);
    let error = Client::new(addr, LIMIT).connect().await.unwrap_err();
    assert!(error.is_gone(), "{error}");
}

#[tokio::test]
async fn reading_stops_at_the_byte_and_a_reset_is_one() {
    let (client, task) = server(|mut connection, _| async move {
        connection
            .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
            .await
            .unwrap();
        connection.write_all(&[b'x'; 1000]).await.unwrap();
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    })
    .await;
    let mut connection = client.connect().await.unwrap();
    connection.send(&Request::get("/")).await.unwrap();
    connection.stop_after(119);
    let error = connection.response("GET").await.unwrap_err();
    assert!(matches!(error, HttpError::Stopped(119)), "{error}");
    assert_eq!(connection.raw().len(), 119);
    assert!(connection.raw().ends_with(b"xxxx"));
    connection.reset();
    task.await.unwrap();
}

#[tokio::test]
async fn a_half_closed_connection_still_reads() {
    let (client, _task) = server(|mut connection, _| async move {
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
        connection
            .write_all(b"HTTP/1.1 200 OK\r\n\r\nlate")
            .await
            .unwrap();
    })
    .await;
    let mut connection = client.connect().await.unwrap();
    connection.send(&Request::get("/")).await.unwrap();
    connection.finish_writing().await.unwrap();
    assert_eq!(connection.response("GET").await.unwrap().text(), "late");
}

#[tokio::test]
async fn a_client_that_does_not_read_makes_the_server_wait() {
    let (client, task) = server(|mut connection, _| async move {
        let megabytes = vec![b'x'; 32 << 20];
        let written =
            tokio::time::timeout(Duration::from_millis(300), connection.write_all(&megabytes));
        assert!(written.await.is_err(), "the system took everything");
    })
    .await;
    let mut connection = client.receive_buffer(4096).connect().await.unwrap();
    connection.send(&Request::get("/")).await.unwrap();
    task.await.unwrap();
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn a_stream_is_read_event_by_event_and_opened_again_behind_the_last() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap(), LIMIT);
    let serving = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        assert!(!head(&mut connection).await.contains("last-event-id"));
        let parts = [
            STREAM.to_owned(),
            chunk("retry: 7\n\n:hi\n\nid: 1\ndata: a\n\nid: 2\nda"),
            chunk("ta: b\n\nid: 3\ndata: lost"),
        ];
        connection
            .write_all(parts.concat().as_bytes())
            .await
            .unwrap();
        drop(connection);
        let (mut connection, _) = listener.accept().await.unwrap();
        assert!(
            head(&mut connection)
                .await
                .contains("\r\nlast-event-id: 2\r\n")
        );
        let parts = [
            STREAM.to_owned(),
            chunk("data: c\n\n"),
            "0\r\n\r\n".to_owned(),
        ];
        connection
            .write_all(parts.concat().as_bytes())
            .await
            .unwrap();
        let (mut connection, _) = listener.accept().await.unwrap();
        assert!(
            head(&mut connection)
                .await
                .contains("\r\nlast-event-id: 2\r\n")
        );
        connection
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
    });
    let mut stream = Stream::open(&client, &Request::get("/events"))
        .await
        .unwrap();
    let told = |event: Option<Event>| event.map(|event| (event.last_id, event.data));
    let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
    assert_eq!(told(stream.next().await.unwrap()), pair("1", "a"));
    assert_eq!(told(stream.next().await.unwrap()), pair("2", "b"));
    assert!(stream.next().await.unwrap_err().is_gone());
    assert!(!stream.is_between_events());
    assert_eq!(stream.retry(), Some(Duration::from_millis(7)));
    assert_eq!(stream.log()[1].1, Item::Comment("hi".into()));
    assert_eq!(stream.events().len(), 2);
    let mut stream = stream.reopen().await.unwrap();
    // It has no id of its own: the last one holds on.
    assert_eq!(told(stream.next().await.unwrap()), pair("2", "c"));
    assert_eq!(stream.next().await.unwrap(), None);
    let refused = stream.reopen().await.unwrap_err();
    assert!(
        matches!(&refused, OpenError::Refused(answer) if answer.status == 204),
        "{refused}"
    );
    serving.await.unwrap();
}

#[tokio::test]
async fn what_is_no_stream_is_refused() {
    let client =
        answering(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nno")
            .await;
    let refused = Stream::open(&client, &Request::get("/")).await.unwrap_err();
    assert_eq!(
        refused.response().map(|response| response.text()),
        Some("no".to_owned())
    );
}

/// An event, framed as the standard says.
fn frame(kind: &str, data: &str, id: usize) -> String {
    let lines: String = data
        .split('\n')
        .map(|line| format!("data: {line}\n"))
        .collect();
    format!("id: {id}\nevent: {kind}\n{lines}\n")
}

/// What a browser would see of bytes that come in pieces of these sizes.
fn seen(bytes: &[u8], sizes: &[usize]) -> Vec<Item> {
    let (mut parser, mut items, mut rest) = (Parser::default(), Vec::new(), bytes);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(rest.len().min(*size));
        parser.feed(piece, &mut items);
        rest = behind;
    }
    items
}

proptest! {
    #[test]
    fn texts_arrive_unchanged_in_pieces_of_any_size(
        texts in prop::collection::vec("([^\r]|\n|: |data: |\u{feff}|\0){0,40}", 1..6),
        end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
        sizes in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let stream: String = texts.iter().enumerate().map(|(n, text)| frame("t", text, n)).collect();
        let items = seen(stream.replace('\n', end).as_bytes(), &sizes);
        let data: Vec<String> = items.iter().filter_map(|item| match item {
            Item::Event(event) => Some(event.data.clone()),
            _ => None,
        }).collect();
        prop_assert_eq!(data, texts);
        let ids = items.iter().enumerate().all(|(n, item)| {
            matches!(item, Item::Event(event) if event.last_id == n.to_string() && event.kind == "t")
        });
        prop_assert!(ids);
    }

    #[test]
    fn any_bytes_are_read_the_same_in_pieces_of_any_size(
        bytes in prop::collection::vec(prop::sample::select(b"\r\n: data:id:event:retry:1\0\xef\xbb\xbf\xc3".to_vec()), 0..200),
        sizes in prop::collection::vec(1_usize..9, 1..20),
    ) {
        prop_assert_eq!(seen(&bytes, &sizes), seen(&bytes, &[1000]));
    }
}
