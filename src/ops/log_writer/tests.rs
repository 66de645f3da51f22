use std::sync::mpsc;

use super::*;

/// A blocked pipe: accepts one write for each signal of `go`, and every write once `go` is dropped. Passes on what it
/// accepts.
struct Stuck {
    go: mpsc::Receiver<()>,
    taken: mpsc::Sender<String>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.go.recv();
        self.taken.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn blocked_writer() -> (NonBlockingWriter, mpsc::Sender<()>, mpsc::Receiver<String>) {
    let (go, go_receiver) = mpsc::channel();
    let (taken_sender, taken) = mpsc::channel();
    let out = Stuck { go: go_receiver, taken: taken_sender };
    (NonBlockingWriter::start(out, |lines| format!("{lines} lost\n")).unwrap(), go, taken)
}

#[test]
fn lines_arrive_whole_and_in_order() {
    let (mut pipe, go, taken) = blocked_writer();
    pipe.write_all(b"one\n").unwrap();
    go.send(()).unwrap();
    assert_eq!(taken.recv_timeout(Duration::from_mins(1)).unwrap(), "one\n");
    pipe.write_all(b"two\n").unwrap();
    go.send(()).unwrap();
    assert_eq!(taken.recv_timeout(Duration::from_mins(1)).unwrap(), "two\n");
}

#[test]
fn full_pipe_blocks_no_writer_and_lost_lines_are_counted() {
    let (pipe, go, taken) = blocked_writer();
    let line = vec![b'x'; 1000];
    for _ in 0..5000 {
        pipe.push(|lines| lines.extend_from_slice(&line));
    }
    drop(go);
    let (mut kept, mut lost) = (0, 0);
    while kept + lost < 5000 {
        let batch = taken.recv_timeout(Duration::from_mins(1)).unwrap();
        let tail = batch.trim_start_matches('x');
        kept += (batch.len() - tail.len()) / line.len();
        lost += tail.strip_suffix(" lost\n").map_or(0, |count| count.parse().unwrap());
    }
    assert!(lost > 0);
    assert_eq!(kept + lost, 5000);
    assert_eq!(pipe.lost_lines(), lost as u64);
}

#[test]
fn drain_waits_for_queued_lines_and_counts_the_rest() {
    let (mut pipe, go, taken) = blocked_writer();
    pipe.write_all(b"last\n").unwrap();
    assert_eq!(pipe.drain(Duration::from_millis(1)), Some(1));
    assert!(taken.try_recv().is_err());
    go.send(()).unwrap();
    assert_eq!(pipe.drain(Duration::from_mins(1)), None);
    assert_eq!(taken.try_recv().unwrap(), "last\n");
}

/// A disk that accepts a number of bytes, fails as full, and accepts everything once space is freed.
#[derive(Clone)]
struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (room, text) = &mut *self.0.lock().unwrap();
        let taken = bytes.len().min(*room);
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *room -= taken;
        text.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk that has room again as soon as it has refused a write.
struct FullOnce(Disk);

impl Write for FullOnce {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect_err(|_| self.0.0.lock().unwrap().0 = usize::MAX)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed().as_secs() < 60, "this takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asserts that each pushed line is either complete in `text` or counted as lost.
fn accounted(text: &str, pushed: usize) {
    let kept = text.lines().filter(|line| line.starts_with("line ") && line.ends_with('.')).count();
    let lost = text.lines().filter_map(|line| line.strip_suffix(" lost")?.parse::<usize>().ok()).sum::<usize>();
    assert_eq!(kept + lost, pushed, "{text}");
}

#[test]
fn full_disk_truncates_no_line_and_counts_lost_ones() {
    let disk = Disk(Arc::new(Mutex::new((33, Vec::new()))));
    let mut pipe = NonBlockingWriter::start(disk.clone(), |lines| format!("{lines} lost\n")).unwrap();
    for number in 0..5 {
        pipe.write_all(format!("line {number}.\n").as_bytes()).unwrap();
    }
    until(|| pipe.problem().is_some());
    assert!(!pipe.is_writable());
    until(|| pipe.lost_lines() > 0);
    pipe.write_all(b"line 5.\n").unwrap();
    until(|| pipe.lost_lines() >= 2);
    disk.0.lock().unwrap().0 = usize::MAX;
    until(|| pipe.is_writable());
    pipe.write_all(b"line 6.\n").unwrap();
    until(|| pipe.problem().is_none());
    let text = String::from_utf8(disk.0.lock().unwrap().1.clone()).unwrap();
    accounted(&text, 7);
    assert!(text.contains("\nl\n2 lost\n"), "a new line is begun: {text}");
    assert!(text.ends_with("line 6.\n"), "{text}");
    assert_eq!(pipe.lost_lines(), 2);
}

#[test]
fn briefly_full_disk_loses_no_line() {
    let disk = Disk(Arc::new(Mutex::new((10, Vec::new()))));
    let full_once = FullOnce(disk.clone());
    let mut pipe = NonBlockingWriter::start(full_once, |lines| format!("{lines} lost\n")).unwrap();
    pipe.write_all(b"line 0.\nline 1.\n").unwrap();
    pipe.drain(Duration::from_mins(1));
    until(|| pipe.is_writable());
    assert_eq!(disk.0.lock().unwrap().1, b"line 0.\nli\nline 1.\n");
    assert_eq!(pipe.lost_lines(), 0);
}

#[test]
fn unwritten_lines_at_the_end_are_counted() {
    let disk = Disk(Arc::new(Mutex::new((0, Vec::new()))));
    let mut pipe = NonBlockingWriter::start(disk, |lines| format!("{lines} lost\n")).unwrap();
    pipe.write_all(b"line 0.\n").unwrap();
    until(|| pipe.lost_lines() == 1);
    assert_eq!(pipe.drain(Duration::from_mins(1)), Some(1));
}
