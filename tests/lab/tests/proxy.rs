//! The proxy against a real Redis: bytes arrive unchanged, the log tells the truth, and
//! faults strike where they were armed.

mod own_server;

use std::time::{Duration, Instant};

use futures::future::join_all;
use lab::faults::{Action, Exchange, Proxy, Reply, Trigger};
use own_server::Server;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn start() -> (Server, Proxy) {
    let server = Server::start();
    let proxy = Proxy::start(&server.addr, Instant::now()).unwrap();
    (server, proxy)
}

async fn connect(url: &str) -> MultiplexedConnection {
    try_connect(url).await.unwrap()
}

async fn try_connect(url: &str) -> RedisResult<MultiplexedConnection> {
    // No limit on an answer: some of them are held back on purpose.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    redis::Client::open(url)?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

async fn direct(server: &Server) -> MultiplexedConnection {
    connect(&format!("redis://{}", server.addr)).await
}

/// A client that writes what it likes and reads bytes, not values.
struct Raw(TcpStream);

impl Raw {
    async fn connect(proxy: &Proxy) -> Raw {
        Raw(TcpStream::connect(proxy.addr()).await.unwrap())
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn expect(&mut self, text: &str) {
        let mut bytes = vec![0; text.len()];
        patiently(self.0.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    /// What comes until the connection ends, in order or by a reset.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = patiently(self.0.read_to_end(&mut bytes)).await;
        String::from_utf8(bytes).unwrap()
    }
}

/// For what should happen at once.
async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("it never happened")
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn resp(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    text
}

fn only(proxy: &Proxy, name: &str) -> Vec<Exchange> {
    proxy.log().into_iter().filter(|e| e.is(name)).collect()
}

#[tokio::test]
async fn a_command_and_its_reply_are_written_down() {
    let (_server, proxy) = start();
    let mut connection = connect(&proxy.url()).await;
    let mark = proxy.mark();
    let id: String = redis::cmd("XADD")
        .arg("s")
        .arg("*")
        .arg("name")
        .arg("value")
        .query_async(&mut connection)
        .await
        .unwrap();
    let seen = proxy.since(mark);
    let [add] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(add.name(), "XADD");
    assert_eq!(add.args(1), ["s", "*", "name", "value"]);
    assert_eq!(add.reply, Some(Reply::Bulk(id.into_bytes())));
    assert_eq!(add.seq, mark);
    assert!(add.replied.unwrap() >= add.sent);
    assert!(add.forwarded && !add.lost && !add.refused && !add.transaction);
    assert!(add.mentions("s") && !add.mentions("XADD"));
}

#[tokio::test]
async fn a_pipeline_is_paired_in_order_and_counts_as_one_round_trip() {
    let (_server, proxy) = start();
    let mut connection = connect(&proxy.url()).await;
    let before = proxy.round_trips();
    let mark = proxy.mark();
    let mut pipe = redis::pipe();
    for i in 0..10_000 {
        pipe.cmd("ECHO").arg(i);
    }
    let answers: Vec<u64> = pipe.query_async(&mut connection).await.unwrap();
    assert_eq!(answers, (0..10_000).collect::<Vec<_>>());
    assert_eq!(proxy.round_trips() - before, 1);
    let seen = proxy.since(mark);
    assert_eq!(seen.len(), 10_000);
    for (i, exchange) in seen.iter().enumerate() {
        assert_eq!(exchange.arg(1), i.to_string());
        assert_eq!(exchange.reply.as_ref().unwrap().as_int(), Some(i as i64));
    }
    for _ in 0..3 {
        let _: String = redis::cmd("PING")
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    assert_eq!(proxy.round_trips() - before, 4);
}

#[tokio::test]
async fn a_pipeline_sent_byte_by_byte_is_one_round_trip() {
    let (_server, proxy) = start();
    let mut raw = Raw::connect(&proxy).await;
    let bytes = resp(&["ECHO", "one"]) + &resp(&["ECHO", "two"]);
    let (begin, end) = bytes.split_at(bytes.len() / 2 + 3);
    raw.send(begin).await;
    raw.expect("$3\r\none\r\n").await;
    raw.send(end).await;
    raw.expect("$3\r\ntwo\r\n").await;
    assert_eq!(proxy.round_trips(), 1);
}

#[tokio::test]
async fn long_words_and_big_replies_pass_unchanged_and_are_cut_in_the_log() {
    let (_server, proxy) = start();
    let mut connection = connect(&proxy.url()).await;
    let big: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mark = proxy.mark();
    let _: () = redis::cmd("SET")
        .arg("k")
        .arg(&big)
        .query_async(&mut connection)
        .await
        .unwrap();
    let back: Vec<u8> = redis::cmd("GET")
        .arg("k")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(back == big);
    let seen = proxy.since(mark);
    assert_eq!(seen[0].command[2], big[..256]);
    assert_eq!(seen[1].reply, Some(Reply::Bulk(big[..256].to_vec())));

    let mut pipe = redis::pipe();
    for i in 0..20_000 {
        pipe.cmd("RPUSH")
            .arg("list")
            .arg(format!("item {i}"))
            .ignore();
    }
    let _: () = pipe.query_async(&mut connection).await.unwrap();
    let all: Vec<String> = redis::cmd("LRANGE")
        .arg("list")
        .arg(0)
        .arg(-1)
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(all.len(), 20_000);
    let seen = only(&proxy, "LRANGE");
    assert_eq!(
        seen[0].reply.as_ref().unwrap().as_array().unwrap().len(),
        20_000
    );
}

#[tokio::test]
async fn a_blocking_read_stays_outstanding_and_commands_behind_it_are_found() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let reader = connect(&proxy.url()).await;
    let mut other = connect(&proxy.url()).await;
    let mark = proxy.mark();
    let reading = tokio::spawn({
        let mut reader = reader.clone();
        async move {
            redis::cmd("BLPOP")
                .arg("q")
                .arg(0)
                .query_async::<(String, String)>(&mut reader)
                .await
        }
    });
    eventually("the read blocks", || proxy.is_blocked()).await;
    let _: String = redis::cmd("PING").query_async(&mut other).await.unwrap();
    assert!(
        proxy.while_blocked().is_empty(),
        "another connection is not in its way"
    );
    assert_eq!(proxy.since(mark)[0].replied, None);

    let behind = tokio::spawn({
        let mut reader = reader.clone();
        async move {
            redis::cmd("ECHO")
                .arg("behind")
                .query_async::<String>(&mut reader)
                .await
        }
    });
    eventually("the second command comes", || {
        !only(&proxy, "ECHO").is_empty()
    })
    .await;
    let _: () = redis::cmd("RPUSH")
        .arg("q")
        .arg("x")
        .query_async(&mut own)
        .await
        .unwrap();
    assert_eq!(reading.await.unwrap().unwrap().1, "x");
    assert_eq!(behind.await.unwrap().unwrap(), "behind");
    assert!(!proxy.is_blocked());
    let found = proxy.while_blocked();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].arg(1), "behind");
}

#[tokio::test]
async fn a_stream_read_blocks_only_if_it_says_so() {
    let (_server, proxy) = start();
    let mut connection = connect(&proxy.url()).await;
    let ask = |words: &'static [&'static str]| {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command
    };
    for words in [
        &["XREAD", "COUNT", "1", "STREAMS", "BLOCK", "0"][..],
        &["XREAD", "COUNT", "1", "BLOCK", "1", "STREAMS", "s", "$"][..],
    ] {
        let _: redis::Value = ask(words).query_async(&mut connection).await.unwrap();
    }
    let blocking: Vec<bool> = only(&proxy, "XREAD")
        .iter()
        .map(Exchange::is_blocking)
        .collect();
    assert_eq!(blocking, [false, true]);
    assert_eq!(only(&proxy, "XREAD")[1].option("block"), Some("1"));
}

#[tokio::test]
async fn the_commands_of_a_transaction_have_their_own_results() {
    let (_server, proxy) = start();
    let mut connection = connect(&proxy.url()).await;
    let mark = proxy.mark();
    let _: (i64, String) = redis::pipe()
        .atomic()
        .cmd("INCR")
        .arg("n")
        .cmd("ECHO")
        .arg("x")
        .query_async(&mut connection)
        .await
        .unwrap();
    let seen = proxy.since(mark);
    let names: Vec<String> = seen.iter().map(Exchange::name).collect();
    assert_eq!(names, ["MULTI", "INCR", "ECHO", "EXEC"]);
    assert!(
        seen.iter().all(|e| e.transaction && e.multi == Some(mark)),
        "{seen:?}"
    );
    assert_eq!(seen[1].reply, Some(Reply::Int(1)));
    assert_eq!(seen[2].reply, Some(Reply::Bulk(b"x".to_vec())));
    let _: String = redis::cmd("PING")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert!(!proxy.since(mark)[4].transaction);

    let mut raw = Raw::connect(&proxy).await;
    let mark = proxy.mark();
    raw.send(resp(&["MULTI"]) + &resp(&["INCR", "n"]) + &resp(&["DISCARD"]) + &resp(&["PING"]))
        .await;
    raw.expect("+OK\r\n+QUEUED\r\n+OK\r\n+PONG\r\n").await;
    let seen = proxy.since(mark);
    assert_eq!(seen[1].reply, Some(Reply::Status("QUEUED".into())));
    assert!(seen[2].transaction && !seen[3].transaction);
}

#[tokio::test]
async fn scripts_and_errors_pass() {
    let (_server, proxy) = start();
    let mut connection = connect(&proxy.url()).await;
    let script = redis::Script::new("return {1, redis.call('ECHO', ARGV[1]), false}");
    let (one, text, none): (i64, String, Option<String>) = script
        .arg("hello")
        .invoke_async(&mut connection)
        .await
        .unwrap();
    assert_eq!((one, text.as_str(), none), (1, "hello", None));
    let wrong: RedisResult<()> = redis::cmd("LPUSH")
        .arg("only")
        .query_async(&mut connection)
        .await;
    assert!(wrong.is_err());
    assert!(only(&proxy, "LPUSH")[0].reply.as_ref().unwrap().is_error());
}

#[tokio::test]
async fn pushes_of_resp3_are_not_taken_for_replies() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["HELLO", "3"])).await;
    eventually("it is greeted", || {
        only(&proxy, "HELLO").iter().any(|e| e.reply.is_some())
    })
    .await;
    let hello = only(&proxy, "HELLO")[0].reply.clone();
    assert!(matches!(hello, Some(Reply::Map(_))), "{hello:?}");
    raw.send(resp(&["SUBSCRIBE", "news"]) + &resp(&["PING"]))
        .await;
    eventually("it pings", || {
        only(&proxy, "PING").iter().any(|e| e.reply.is_some())
    })
    .await;
    let _: () = redis::cmd("PUBLISH")
        .arg("news")
        .arg("x")
        .query_async(&mut own)
        .await
        .unwrap();
    raw.send(resp(&["ECHO", "after"])).await;
    eventually("it echoes", || {
        only(&proxy, "ECHO").iter().any(|e| e.reply.is_some())
    })
    .await;
    assert_eq!(
        only(&proxy, "PING")[0].reply,
        Some(Reply::Status("PONG".into()))
    );
    assert_eq!(
        only(&proxy, "ECHO")[0].reply,
        Some(Reply::Bulk(b"after".to_vec()))
    );
}

#[tokio::test]
async fn subscribers_of_resp2_get_their_messages_and_replies() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["SUBSCRIBE", "a", "b"])).await;
    raw.expect(
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
    )
    .await;
    let _: () = redis::cmd("PUBLISH")
        .arg("a")
        .arg("x")
        .query_async(&mut own)
        .await
        .unwrap();
    raw.expect("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n")
        .await;
    raw.send(resp(&["RESET"]) + &resp(&["ECHO", "y"])).await;
    raw.expect("+RESET\r\n$1\r\ny\r\n").await;
    assert_eq!(
        only(&proxy, "ECHO")[0].reply,
        Some(Reply::Bulk(b"y".to_vec()))
    );
}

#[tokio::test]
async fn inline_commands_and_empty_lines_are_understood() {
    let (_server, proxy) = start();
    let mut raw = Raw::connect(&proxy).await;
    raw.send("\r\n*0\r\nECHO one\r\n").await;
    raw.expect("$3\r\none\r\n").await;
    raw.send("FLUSHALL\r\nECHO two\r\n").await;
    raw.expect(
        "-ERR FLUSHALL is not for candidates: this broker is shared with others\r\n$3\r\ntwo\r\n",
    )
    .await;
    assert_eq!(proxy.mark(), 3);
    assert_eq!(
        only(&proxy, "ECHO")[1].reply,
        Some(Reply::Bulk(b"two".to_vec()))
    );
}

#[tokio::test]
async fn what_is_not_redis_is_passed_on_unread() {
    let (_server, proxy) = start();
    let mut raw = Raw::connect(&proxy).await;
    raw.send("*1\r\nnonsense\r\n").await;
    assert!(raw.rest().await.starts_with("-ERR Protocol error"));
}

#[tokio::test]
async fn forbidden_commands_are_answered_in_their_turn_and_never_arrive() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let _: () = redis::cmd("SET")
        .arg("k")
        .arg("kept")
        .query_async(&mut own)
        .await
        .unwrap();
    let mut raw = Raw::connect(&proxy).await;
    let pipeline = [
        resp(&["flushall"]),
        resp(&["ECHO", "1"]),
        resp(&["CONFIG", "SET", "maxmemory", "1"]),
        resp(&["SHUTDOWN", "NOSAVE"]),
        resp(&["ECHO", "2"]),
        resp(&["CLIENT", "REPLY", "OFF"]),
    ];
    raw.send(pipeline.concat()).await;
    let no = |what: &str| {
        format!("-ERR {what} is not for candidates: this broker is shared with others\r\n")
    };
    let wanted = [
        no("FLUSHALL"),
        "$1\r\n1\r\n".into(),
        no("CONFIG"),
        no("SHUTDOWN"),
        "$1\r\n2\r\n".into(),
        no("CLIENT REPLY"),
    ];
    raw.expect(&wanted.concat()).await;
    let names: Vec<String> = proxy.forbidden().iter().map(Exchange::name).collect();
    assert_eq!(names, ["FLUSHALL", "CONFIG", "SHUTDOWN", "CLIENT"]);
    assert!(
        proxy
            .forbidden()
            .iter()
            .all(|e| !e.forwarded && e.reply.as_ref().unwrap().is_error())
    );
    let kept: String = redis::cmd("GET")
        .arg("k")
        .query_async(&mut own)
        .await
        .unwrap();
    assert_eq!(kept, "kept");
}

#[tokio::test]
async fn a_forbidden_command_behind_a_blocking_one_waits_its_turn() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["BLPOP", "q", "0"]) + &resp(&["FLUSHALL"]))
        .await;
    eventually("it is refused", || !proxy.forbidden().is_empty()).await;
    let _: () = redis::cmd("RPUSH")
        .arg("q")
        .arg("x")
        .query_async(&mut own)
        .await
        .unwrap();
    raw.expect("*2\r\n$1\r\nq\r\n$1\r\nx\r\n-ERR FLUSHALL")
        .await;
}

#[tokio::test]
async fn cut_before_keeps_the_command_from_the_broker() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let fault = proxy.arm(Trigger::request(|e| e.is("INCR")).nth(3), Action::CutBefore);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["INCR", "n"]).repeat(5)).await;
    assert_eq!(raw.rest().await, ":1\r\n:2\r\n");
    assert!(fault.has_fired());
    let n: u64 = redis::cmd("GET")
        .arg("n")
        .query_async(&mut own)
        .await
        .unwrap();
    assert_eq!(n, 2);
    let seen = only(&proxy, "INCR");
    assert_eq!(seen.len(), 3);
    assert!(!seen[2].forwarded && seen[2].lost && seen[2].reply.is_none());
    // It strikes once.
    let mut again = Raw::connect(&proxy).await;
    again.send(resp(&["INCR", "n"]).repeat(5)).await;
    again.expect(":3\r\n:4\r\n:5\r\n:6\r\n:7\r\n").await;
}

#[tokio::test]
async fn cut_before_does_not_wait_for_a_blocking_read() {
    let (_server, proxy) = start();
    let fault = proxy.arm(Trigger::request(|e| e.is("PING")), Action::CutBefore);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["BLPOP", "q", "0"]) + &resp(&["PING"]))
        .await;
    assert_eq!(raw.rest().await, "");
    assert!(fault.has_fired());
    eventually("the read is lost", || only(&proxy, "BLPOP")[0].lost).await;
}

#[tokio::test]
async fn cut_after_lets_the_broker_act_and_swallows_the_reply() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let fault = proxy.arm(Trigger::request(|e| e.is("INCR")).nth(3), Action::CutAfter);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["INCR", "n"]).repeat(5)).await;
    assert_eq!(raw.rest().await, ":1\r\n:2\r\n");
    patiently(fault.fired()).await;
    let n: u64 = redis::cmd("GET")
        .arg("n")
        .query_async(&mut own)
        .await
        .unwrap();
    assert_eq!(n, 3, "what came after it does not arrive");
    let third = &only(&proxy, "INCR")[2];
    assert!(third.forwarded && third.lost);
    assert_eq!(third.reply, Some(Reply::Int(3)));
}

#[tokio::test]
async fn cut_after_waits_for_the_reply_even_if_the_client_has_gone() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let fault = proxy.arm(Trigger::request(|e| e.is("INCR")), Action::CutAfter);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["INCR", "n"])).await;
    drop(raw);
    patiently(fault.fired()).await;
    let n: u64 = redis::cmd("GET")
        .arg("n")
        .query_async(&mut own)
        .await
        .unwrap();
    assert_eq!(n, 1);
}

#[tokio::test]
async fn a_reply_can_be_the_trigger() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let two = |e: &Exchange| e.reply.as_ref().and_then(Reply::as_int) == Some(2);
    let fault = proxy.arm(Trigger::reply(two), Action::CutAfter);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["INCR", "n"]).repeat(2)).await;
    assert_eq!(raw.rest().await, ":1\r\n");
    assert!(fault.has_fired());
    let n: u64 = redis::cmd("GET")
        .arg("n")
        .query_async(&mut own)
        .await
        .unwrap();
    assert_eq!(n, 2);
    assert!(only(&proxy, "INCR")[1].lost);
}

#[tokio::test]
async fn a_held_command_arrives_when_it_is_released() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let fault = proxy.arm(Trigger::request(|e| e.arg(1) == "b"), Action::Hold);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["ECHO", "a"]) + &resp(&["APPEND", "b", "xx"]) + &resp(&["ECHO", "c"]))
        .await;
    raw.expect("$1\r\na\r\n").await;
    patiently(fault.fired()).await;
    let exists: bool = redis::cmd("EXISTS")
        .arg("b")
        .query_async(&mut own)
        .await
        .unwrap();
    assert!(!exists);
    assert!(only(&proxy, "APPEND")[0].reply.is_none());
    fault.release();
    raw.expect(":2\r\n$1\r\nc\r\n").await;
}

#[tokio::test]
async fn a_held_command_arrives_even_if_its_client_has_gone() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let fault = proxy.arm(Trigger::request(|e| e.is("INCR")), Action::Hold);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["INCR", "n"])).await;
    patiently(fault.fired()).await;
    drop(raw);
    fault.release();
    eventually("it is answered", || only(&proxy, "INCR")[0].reply.is_some()).await;
    let n: u64 = redis::cmd("GET")
        .arg("n")
        .query_async(&mut own)
        .await
        .unwrap();
    assert_eq!(n, 1);
}

#[tokio::test]
async fn what_is_held_stays_held_when_its_fault_is_forgotten() {
    let (_server, proxy) = start();
    let fault = proxy.arm(Trigger::request(|e| e.is("INCR")), Action::Hold);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["INCR", "n"])).await;
    patiently(fault.fired()).await;
    drop(fault);
    let mut byte = [0];
    let silence = tokio::time::timeout(Duration::from_millis(100), raw.0.read(&mut byte)).await;
    assert!(silence.is_err());
}

#[tokio::test]
async fn a_held_reply_comes_when_it_is_released_and_keeps_the_order() {
    let (_server, proxy) = start();
    let fault = proxy.arm(Trigger::reply(|e| e.is("INCR")), Action::Hold);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(
        resp(&["ECHO", "a"]) + &resp(&["INCR", "n"]) + &resp(&["FLUSHALL"]) + &resp(&["ECHO", "c"]),
    )
    .await;
    raw.expect("$1\r\na\r\n").await;
    patiently(fault.fired()).await;
    eventually("the broker has answered", || {
        only(&proxy, "INCR")[0].reply.is_some()
    })
    .await;
    let mut byte = [0];
    assert!(
        raw.0.try_read(&mut byte).is_err(),
        "nothing comes before the release"
    );
    fault.release();
    raw.expect(":1\r\n-ERR FLUSHALL is not for candidates: this broker is shared with others\r\n$1\r\nc\r\n").await;
}

#[tokio::test]
async fn a_held_command_whose_connection_is_cut_never_arrives() {
    let (server, proxy) = start();
    let mut own = direct(&server).await;
    let fault = proxy.arm(Trigger::request(|e| e.is("INCR")), Action::Hold);
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["INCR", "n"])).await;
    patiently(fault.fired()).await;
    proxy.cut_all();
    raw.rest().await;
    fault.release();
    eventually("it is lost", || only(&proxy, "INCR")[0].lost).await;
    assert!(!only(&proxy, "INCR")[0].forwarded);
    let exists: bool = redis::cmd("EXISTS")
        .arg("n")
        .query_async(&mut own)
        .await
        .unwrap();
    assert!(!exists);
}

#[tokio::test]
async fn a_delay_lets_others_go_first() {
    let (_server, proxy) = start();
    let delay = Duration::from_millis(200);
    let fault = proxy.arm(
        Trigger::request(|e| e.arg(2) == "slow"),
        Action::Delay(delay),
    );
    let mut slow = connect(&proxy.url()).await;
    let mut fast = connect(&proxy.url()).await;
    let began = Instant::now();
    let slow = tokio::spawn(async move {
        redis::cmd("APPEND")
            .arg("k")
            .arg("slow")
            .query_async::<i64>(&mut slow)
            .await
    });
    patiently(fault.fired()).await;
    let _: i64 = redis::cmd("APPEND")
        .arg("k")
        .arg("fast")
        .query_async(&mut fast)
        .await
        .unwrap();
    assert_eq!(slow.await.unwrap().unwrap(), 8);
    assert!(began.elapsed() >= delay);
}

#[tokio::test]
async fn a_seed_chooses_the_same_event_again_and_another_seed_another() {
    let (_server, proxy) = start();
    let struck = async |seed| {
        let fault = proxy.arm(
            Trigger::request(|e| e.is("ECHO")).nth_by_seed(seed, 20),
            Action::CutBefore,
        );
        let mark = proxy.mark();
        let mut raw = Raw::connect(&proxy).await;
        raw.send(resp(&["ECHO", "x"]).repeat(20)).await;
        raw.rest().await;
        assert!(fault.has_fired());
        proxy.since(mark).len()
    };
    let mut chosen = Vec::new();
    for seed in 0..12 {
        let first = struck(seed).await;
        assert_eq!(first, struck(seed).await);
        assert!((1..=20).contains(&first));
        chosen.push(first);
    }
    chosen.sort_unstable();
    chosen.dedup();
    assert!(chosen.len() > 4, "{chosen:?}");
}

#[tokio::test]
async fn a_fault_that_was_taken_back_does_not_strike() {
    let (_server, proxy) = start();
    let fault = proxy.arm(Trigger::request(|e| e.is("ECHO")), Action::CutBefore);
    assert!(fault.disarm());
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["ECHO", "x"])).await;
    raw.expect("$1\r\nx\r\n").await;
    assert!(!fault.has_fired() && !fault.disarm());
}

#[tokio::test]
async fn a_trigger_may_look_into_the_log() {
    let (_server, proxy) = start();
    let looking = proxy.clone();
    let fault = proxy.arm(
        Trigger::reply(move |e| looking.count(|other| other.is("ECHO")) == 2 && e.is("ECHO")),
        Action::CutAfter,
    );
    for _ in 0..2 {
        let mut raw = Raw::connect(&proxy).await;
        raw.send(resp(&["ECHO", "x"])).await;
        raw.0.shutdown().await.unwrap();
        raw.rest().await;
    }
    assert!(fault.has_fired());
}

#[tokio::test]
async fn cutting_ends_all_connections_and_new_ones_work() {
    let (_server, proxy) = start();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut raw = Raw::connect(&proxy).await;
        raw.send(resp(&["PING"])).await;
        raw.expect("+PONG\r\n").await;
        clients.push(raw);
    }
    proxy.cut_all();
    for client in &mut clients {
        assert_eq!(client.rest().await, "");
    }
    let mut connection = connect(&proxy.url()).await;
    let _: String = redis::cmd("PING")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(proxy.faults()[0].1, "all connections cut");
}

#[tokio::test]
async fn refusing_leaves_old_connections_alone() {
    let (_server, proxy) = start();
    let mut old = connect(&proxy.url()).await;
    proxy.refuse(true);
    assert!(patiently(try_connect(&proxy.url())).await.is_err());
    let _: String = redis::cmd("PING").query_async(&mut old).await.unwrap();
    assert!(proxy.refused() > 0, "somebody knocked, and nobody counted");
    proxy.refuse(false);
    connect(&proxy.url()).await;
}

#[tokio::test]
async fn a_stalled_network_moves_nothing_and_loses_nothing() {
    let (_server, proxy) = start();
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["PING"])).await;
    raw.expect("+PONG\r\n").await;
    proxy.stall(true);
    let mark = proxy.mark();
    raw.send(resp(&["ECHO", "x"])).await;
    let mut byte = [0];
    let silence = tokio::time::timeout(Duration::from_millis(100), raw.0.read(&mut byte)).await;
    assert!(silence.is_err());
    assert_eq!(proxy.mark(), mark);
    proxy.stall(false);
    raw.expect("$1\r\nx\r\n").await;
    proxy.stall(true);
    proxy.cut_all();
    assert_eq!(raw.rest().await, "", "a cut ends a stalled connection too");
}

#[tokio::test]
async fn a_client_that_has_said_all_still_hears_the_answers() {
    let (_server, proxy) = start();
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["ECHO", "x"]).repeat(1000)).await;
    raw.0.shutdown().await.unwrap();
    assert_eq!(raw.rest().await, "$1\r\nx\r\n".repeat(1000));
}

#[tokio::test]
async fn the_end_of_the_broker_is_the_end_of_its_connections() {
    let (server, proxy) = start();
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["BLPOP", "q", "0"])).await;
    eventually("the read blocks", || proxy.is_blocked()).await;
    drop(server);
    assert_eq!(raw.rest().await, "");
    eventually("the read is lost", || only(&proxy, "BLPOP")[0].lost).await;
    assert!(try_connect(&proxy.url()).await.is_err());

    let another = Server::start();
    proxy.set_upstream(&another.addr).unwrap();
    let mut connection = connect(&proxy.url()).await;
    let _: String = redis::cmd("PING")
        .query_async(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_does_not_stop_its_own_questions() {
    let (_server, proxy) = start();
    let mut raw = Raw::connect(&proxy).await;
    let payload = "x".repeat(1000);
    let question = resp(&["ECHO", &payload]).repeat(100);
    for _ in 0..100 {
        patiently(raw.send(&question)).await;
    }
    raw.expect(&format!("$1000\r\n{payload}\r\n").repeat(10_000))
        .await;
}

#[tokio::test]
async fn fifty_connections_at_once_are_kept_apart() {
    let (_server, proxy) = start();
    let clients = (0..50).map(|client| {
        let url = proxy.url();
        async move {
            let mut connection = connect(&url).await;
            for i in 0..100 {
                let text = format!("{client}/{i}");
                let (a, b): (String, String) = redis::pipe()
                    .cmd("ECHO")
                    .arg(&text)
                    .cmd("ECHO")
                    .arg("second")
                    .query_async(&mut connection)
                    .await
                    .unwrap();
                assert_eq!((a, b), (text, "second".to_owned()));
            }
        }
    });
    join_all(clients).await;
    let seen = only(&proxy, "ECHO");
    assert_eq!(seen.len(), 10_000);
    for exchange in &seen {
        assert_eq!(
            exchange.reply.as_ref().unwrap().as_str(),
            Some(exchange.arg(1))
        );
    }
    let all = proxy.log();
    assert!(all.iter().enumerate().all(|(i, e)| e.seq == i));
}

#[tokio::test]
async fn the_last_clone_takes_everything_with_it() {
    let (_server, proxy) = start();
    let mut raw = Raw::connect(&proxy).await;
    raw.send(resp(&["PING"])).await;
    raw.expect("+PONG\r\n").await;
    let addr = proxy.addr();
    let clone = proxy.clone();
    drop(proxy);
    raw.send(resp(&["PING"])).await;
    raw.expect("+PONG\r\n").await;
    drop(clone);
    assert_eq!(raw.rest().await, "");
    assert!(TcpStream::connect(addr).await.is_err());
}

#[test]
fn a_url_keeps_its_credentials_and_database() {
    let proxy = Proxy::start("redis://:s3cret@localhost:6390/4", Instant::now()).unwrap();
    assert_eq!(proxy.url(), format!("redis://:s3cret@{}/4", proxy.addr()));
    let error = Proxy::start("rediss://:s3cret@localhost", Instant::now()).unwrap_err();
    assert!(!error.to_string().contains("s3cret"));
}

/// Not a promise but a measurement: `cargo test -p lab --test proxy -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "measures"]
async fn throughput() {
    let (_server, proxy) = start();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    let count = 200_000;
    let command = resp(&[
        "XADD", "s", "*", "order_id", "12345", "user_id", "42", "amount", "99.5",
    ]);
    let all = command.repeat(count);
    let began = Instant::now();
    let (mut read, mut write) = client.split();
    let writing = async { write.write_all(all.as_bytes()).await.unwrap() };
    let reading = async {
        let mut seen = 0;
        let mut buffer = vec![0; 1 << 16];
        while seen < 2 * count {
            let n = read.read(&mut buffer).await.unwrap();
            seen += buffer[..n].iter().filter(|byte| **byte == b'\n').count();
        }
    };
    tokio::join!(writing, reading);
    let took = began.elapsed();
    println!(
        "{count} pipelined XADD in {took:?}: {:.0} a second, {} round trips, {} unrecorded",
        count as f64 / took.as_secs_f64(),
        proxy.round_trips(),
        proxy.unrecorded(),
    );
    let began = Instant::now();
    let copied = proxy.log().len();
    println!("copying {copied} exchanges: {:?}", began.elapsed());
}
