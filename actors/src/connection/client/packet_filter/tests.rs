//! The client and the broker are simulated by the two ends of a pipe.

use std::collections::VecDeque;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

/// A network connection whose reads and writes return what a test has planned.
#[derive(Debug, Default)]
struct Scripted {
    reads: VecDeque<io::Result<Vec<u8>>>,
    write_error: Option<io::ErrorKind>,
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.reads.pop_front() {
            Some(Ok(bytes)) => {
                buf.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_error.map_or(Ok(buf.len()), |kind| Err(kind.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A PUBLISH with QoS 1 (or 2) to the topic `t`.
fn publish(id: u16, qos: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let remaining = 6 + payload.len();
    let mut packet = vec![0x30 | qos << 1];
    if remaining < 128 {
        packet.push(u8::try_from(remaining).unwrap());
    } else {
        packet
            .extend([u8::try_from(remaining % 128).unwrap() | 0x80, u8::try_from(remaining / 128).unwrap()]);
    }
    packet.extend([0, 1, b't', high, low, 0]);
    packet.extend(payload);
    packet
}

fn puback(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x40, 2, high, low]
}

/// A filter through which the messages with these packet ids were sent, and which reads this.
async fn filter_after(ids: &[u16], reads: Vec<io::Result<Vec<u8>>>) -> PacketFilter<Scripted> {
    let scripted = Scripted { reads: reads.into(), write_error: None };
    let mut filter = PacketFilter::new(scripted, Version::V5, Traffic::default());
    for id in ids {
        filter.write_all(&publish(*id, 1, b"{}")).await.unwrap();
    }
    filter
}

/// Reads as the client does: everything that is ready, then a pause. Returns the parts, up to the end.
fn parts(filter: &mut PacketFilter<Scripted>) -> (Vec<Vec<u8>>, io::Result<usize>) {
    let mut parts = Vec::new();
    loop {
        let mut part = Vec::new();
        loop {
            let mut buf = [0; 4096];
            match filter.read(&mut buf).now_or_never() {
                Some(Ok(0)) => return (parts, Ok(0)),
                Some(Ok(count)) => part.extend_from_slice(&buf[..count]),
                Some(Err(error)) => return (parts, Err(error)),
                None => break,
            }
        }
        if part.is_empty() {
            // Nothing more is planned.
            return (parts, Ok(usize::MAX));
        }
        parts.push(part);
    }
}

#[tokio::test]
async fn acknowledgements_are_delivered_before_the_end_that_arrives_with_them() {
    let acks = [puback(1), puback(2)].concat();
    let closed = vec![Ok(acks.clone()), Ok(Vec::new())];
    let mut filter = filter_after(&[1, 2], closed).await;
    let (read, end) = parts(&mut filter);
    assert_eq!((read, end.unwrap()), (vec![acks.clone()], 0));

    let reset = vec![Ok(acks.clone()), Err(io::ErrorKind::ConnectionReset.into())];
    let mut filter = filter_after(&[1, 2], reset).await;
    let (read, end) = parts(&mut filter);
    assert_eq!((read, end.unwrap_err().kind()), (vec![acks.clone()], io::ErrorKind::ConnectionReset));

    let disconnect = vec![Ok([acks.clone(), vec![0xE0, 2, 0x8B, 0]].concat()), Ok(Vec::new())];
    let mut filter = filter_after(&[1, 2], disconnect).await;
    let (read, end) = parts(&mut filter);
    assert_eq!((read, end.unwrap()), (vec![acks, vec![0xE0, 2, 0x8B, 0]], 0));
}

#[tokio::test]
async fn a_disconnect_without_a_property_length_gets_one_wherever_it_is_cut() {
    for reason in [0x95, 0x87, 0x8E] {
        let sent = [puback(1), vec![0xE0, 1, reason]].concat();
        for cut in 0..=sent.len() {
            for second in cut..=sent.len() {
                let chunks = [&sent[..cut], &sent[cut..second], &sent[second..]];
                let reads =
                    chunks.into_iter().filter(|chunk| !chunk.is_empty()).map(|chunk| Ok(chunk.to_vec()));
                let mut filter = filter_after(&[1], reads.collect()).await;
                let (read, _) = parts(&mut filter);
                assert_eq!(read, [puback(1), vec![0xE0, 2, reason, 0]], "cut at {cut} and {second}");
            }
        }
    }
}

#[tokio::test]
async fn other_disconnects_pass_unchanged() {
    let with_text = [&[0xE0, 8, 0x82, 6, 0x1F, 0, 3][..], b"why"].concat();
    for sent in [vec![0xE0, 0], vec![0xE0, 2, 0x95, 0], with_text] {
        let mut filter = filter_after(&[], vec![Ok(sent.clone())]).await;
        assert_eq!(parts(&mut filter).0, [sent]);
    }
}

#[tokio::test]
async fn a_reason_that_mqtt_5_does_not_define_becomes_an_unspecified_error() {
    let mut filter = filter_after(&[], vec![Ok(vec![0xE0, 1, 0x01])]).await;
    assert_eq!(parts(&mut filter).0, [vec![0xE0, 2, 0x80, 0]]);

    let acks = vec![0x40, 3, 0, 1, 0x95, 0x40, 3, 0, 2, 0x92, 0x40, 4, 0, 3, 0x87, 0];
    let mut filter = filter_after(&[1, 2, 3], vec![Ok(acks)]).await;
    let replaced = vec![0x40, 3, 0, 1, 0x80, 0x40, 3, 0, 2, 0x80, 0x40, 4, 0, 3, 0x87, 0];
    assert_eq!(parts(&mut filter).0, [replaced]);
    let too_large: Vec<_> = (1..=3).filter(|id| filter.traffic.take_too_large(*id)).collect();
    assert_eq!(too_large, [1]);
}

#[tokio::test]
async fn an_acknowledgement_that_no_message_waits_for_is_dropped_wherever_it_is_cut() {
    let sent = [puback(9), puback(1), puback(1), puback(2), vec![0x70, 2, 0, 2]].concat();
    for cut in 0..sent.len() {
        let reads = [&sent[..cut], &sent[cut..]].map(|chunk| Ok(chunk.to_vec()));
        let reads = reads.into_iter().filter(|read| read.as_ref().is_ok_and(|chunk| !chunk.is_empty()));
        let mut filter = filter_after(&[1, 2], reads.collect()).await;
        assert_eq!(parts(&mut filter).0.concat(), [puback(1), puback(2)].concat(), "cut at {cut}");
    }
}

#[tokio::test]
async fn each_step_of_qos_2_is_expected_once() {
    let (pubrec, pubcomp) = ([0x50, 2, 0, 1], [0x70, 2, 0, 1]);
    let reads = [&pubrec[..], &pubrec, &pubcomp, &pubcomp].concat();
    let mut filter = PacketFilter::new(
        Scripted { reads: [Ok(reads)].into(), write_error: None },
        Version::V311,
        Traffic::default(),
    );
    filter.write_all(&publish(1, 2, b"{}")).await.unwrap();
    assert_eq!(parts(&mut filter).0, [[pubrec, pubcomp].concat()]);
}

#[tokio::test]
async fn packet_ids_are_found_wherever_the_outgoing_bytes_are_cut() {
    let long = vec![0x40; 300];
    let ping = vec![0xC0, 0];
    let qos_0 = vec![0x30, 5, 0, 1, b't', 0, 7];
    let sent = [publish(1, 1, b""), ping, publish(258, 2, &long), qos_0, publish(3, 1, b"x")].concat();
    for cut in 0..sent.len() {
        let (mut outgoing, mut ids) = (Outgoing::default(), Vec::new());
        for part in [&sent[..cut], &sent[cut..]] {
            outgoing.written(part, |id| ids.push(id));
        }
        assert_eq!(ids, [1, 258, 3], "cut at {cut}");
    }
}

#[tokio::test]
async fn the_read_side_reports_the_end_after_a_failed_write() {
    let mut filter = filter_after(&[1], vec![Ok([puback(1), vec![0xE0, 2, 0x95, 0]].concat())]).await;
    filter.inner.reads.push_back(Ok(Vec::new()));
    filter.inner.write_error = Some(io::ErrorKind::BrokenPipe);
    filter.write_all(&publish(2, 1, b"{}")).await.unwrap();
    filter.flush().await.unwrap();
    let (read, end) = parts(&mut filter);
    assert_eq!((read, end.unwrap()), (vec![puback(1), vec![0xE0, 2, 0x95, 0]], 0));
}

#[tokio::test]
async fn a_reset_that_a_write_has_noticed_is_reported_as_a_reset() {
    let mut filter = filter_after(&[], vec![Ok(Vec::new())]).await;
    filter.inner.write_error = Some(io::ErrorKind::ConnectionReset);
    filter.write_all(&publish(1, 1, b"{}")).await.unwrap();
    assert_eq!(parts(&mut filter).1.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_arrived_before_a_failed_write_is_read_even_if_it_is_noticed_later() {
    let mut filter = filter_after(&[1], Vec::new()).await;
    filter.inner.write_error = Some(io::ErrorKind::ConnectionReset);
    filter.write_all(&publish(2, 1, b"{}")).await.unwrap();
    assert_eq!(parts(&mut filter).1.unwrap(), usize::MAX, "it waits");
    filter.inner.reads.extend([Ok(puback(1)), Ok(Vec::new())]);
    let (read, end) = parts(&mut filter);
    assert_eq!((read, end.unwrap_err().kind()), (vec![puback(1)], io::ErrorKind::ConnectionReset));
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_ends_the_connection_even_if_the_read_side_does_not_report_it() {
    let mut filter = filter_after(&[], Vec::new()).await;
    filter.inner.write_error = Some(io::ErrorKind::TimedOut);
    filter.write_all(&publish(1, 1, b"{}")).await.unwrap();
    assert_eq!(filter.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// Copies random packets through the filter in random chunks.
async fn pass(sent: &[u8], chunk: usize) -> Vec<u8> {
    let (client, mut broker): (DuplexStream, DuplexStream) = duplex(chunk);
    let mut filter = PacketFilter::new(client, Version::V5, Traffic::default());
    let sender = async {
        broker.write_all(sent).await.unwrap();
        drop(broker);
    };
    let mut read = Vec::new();
    let ((), count) = tokio::join!(sender, filter.read_to_end(&mut read));
    count.unwrap();
    read
}

#[tokio::test]
async fn other_packets_pass_unchanged_in_chunks_of_any_size() {
    let suback = vec![0x90, 4, 0, 1, 0, 1];
    let sent =
        [suback, publish(1, 1, &vec![b'x'; 5000]), vec![0xD0, 0], publish(2, 0, b"y"), vec![0x20]].concat();
    for chunk in [1, 2, 3, 7, 64, 100_000] {
        assert_eq!(pass(&sent, chunk).await, sent, "chunks of {chunk}");
    }
    let not_mqtt = vec![0x90, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
    assert_eq!(pass(&not_mqtt, 2).await, not_mqtt);
}
