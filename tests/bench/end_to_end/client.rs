//! A minimal HTTP/1.1 client, so that the load generator uses as little CPU time as possible. It writes
//! prepared requests, and parses only the status and the length of responses.

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::tls::Tls;

/// Returns a POST request, ready to be written.
pub fn post(path: &str, token: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A stream, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A persistent connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the service listens");
        stream.set_nodelay(true).expect("the option can be set");
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Opens a connection over TLS.
    pub async fn open_encrypted(tls: &Tls, port: u16) -> Self {
        let stream = tls.connect(port).await.expect("the service serves TLS");
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Sends the request and reads the whole response, whose status must be 202.
    pub async fn send_accepted(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("the service reads");
        self.stream.flush().await.expect("the service reads");
        self.buffer.clear();
        let whole = loop {
            let read = self.stream.read_buf(&mut self.buffer).await.expect("the service responds");
            assert!(read > 0, "the service closed the connection: {}", String::from_utf8_lossy(&self.buffer));
            if let Some(whole) = response_length(&self.buffer)
                && self.buffer.len() >= whole
            {
                break whole;
            }
        };
        let text = || String::from_utf8_lossy(&self.buffer[..whole]);
        assert!(self.buffer.starts_with(b"HTTP/1.1 202"), "not accepted: {}", text());
    }
}

/// Returns the length of the response, head and body, or `None` until its head is complete.
fn response_length(buffer: &[u8]) -> Option<usize> {
    let head = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&buffer[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    Some(head + 4 + length)
}
