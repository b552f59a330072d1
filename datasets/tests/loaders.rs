//! Every loader on a small file of its format, and on each way such a file can be damaged.

use autodidact_core::Result;
use autodidact_datasets::array::read_npy;
use autodidact_datasets::audio::read_wav;
use autodidact_datasets::image::{cifar10, cifar100, image_folder, mnist, read_idx};
use autodidact_datasets::tabular::{Values, read_arff, read_csv};
use autodidact_datasets::text::{JsonLines, parallel_sentences, read_text};
use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};
use tempfile::{TempDir, tempdir};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// Checks that the error begins with the file's name and says what was expected and what was found.
#[track_caller]
fn fails<T>(result: Result<T>, path: &Path, parts: [&str; 2]) {
    let Err(error) = result else { panic!("{} was accepted", path.display()) };
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert!(text.contains(&format!("expected {}", parts[0])), "{text}");
    assert!(text.contains(&format!("found {}", parts[1])), "{text}");
}

/// `n` CIFAR records whose label and pixels are their number.
fn records(n: u8, label_bytes: usize) -> Vec<u8> {
    (0..n).flat_map(|i| std::iter::repeat_n(i, label_bytes + 3072)).collect()
}

#[test]
fn cifar10_from_a_folder_and_from_an_archive() {
    let folder = tempdir().unwrap();
    write(&folder, "c/data_batch_2.bin", records(3, 1));
    write(&folder, "c/data_batch_5.bin", records(2, 1));
    write(&folder, "c/test_batch.bin", records(4, 1));
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    archive.append_dir_all("cifar-10-batches-bin", folder.path().join("c")).unwrap();
    let bytes = archive.into_inner().unwrap().finish().unwrap();
    let file = write(&folder, "c.tar.gz", &bytes);
    for path in [folder.path().join("c"), file] {
        let cifar = cifar10(&path).unwrap();
        assert_eq!(cifar.train_batches, 2);
        assert_eq!(cifar.train.images.size(), [5, 3, 32, 32]);
        assert_eq!(Vec::<i64>::try_from(&cifar.train.labels).unwrap(), [0, 1, 2, 0, 1]);
        assert_eq!(cifar.test.images.select(0, 3).min().int64_value(&[]), 3);
        assert_eq!(cifar.test.classes[3], "cat");
    }
    let cut = write(&folder, "cut.tar.gz", &bytes[..bytes.len() - 40]);
    fails(cifar10(&cut), &cut, ["a complete .tar.gz archive", ""]);
    let not = write(&folder, "not.tar.gz", "hello, this is no archive");
    fails(cifar10(&not), &not, ["a complete .tar.gz archive", "invalid gzip header"]);
}

#[test]
fn damaged_cifar_files_are_named() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("c");
    fails(cifar10(&root), &root, ["a folder or .tar.gz", "no such file"]);
    let test = write(&folder, "c/test_batch.bin", records(2, 1));
    fails(cifar10(&root), &root, ["a file data_batch_*.bin", "no such file"]);
    let train = write(&folder, "c/data_batch_1.bin", &records(2, 1)[..6000]);
    fails(cifar10(&root), &train, ["a positive multiple of 3073 bytes", "6000 bytes"]);
    write(&folder, "c/data_batch_1.bin", records(12, 1));
    fails(cifar10(&root), &train, ["labels below 10", "label 10 in record 10"]);
    write(&folder, "c/data_batch_1.bin", records(2, 1));
    fs::write(&test, "").unwrap();
    fails(cifar10(&root), &test, ["a positive multiple of 3073 bytes", "0 bytes"]);
    fs::remove_file(&test).unwrap();
    fails(cifar10(&root), &root, ["a file test_batch.bin", "no such file"]);
    let meta = write(&folder, "c/batches.meta.txt", "airplane\ncar\n");
    write(&folder, "c/test_batch.bin", records(2, 1));
    fails(cifar10(&root), &meta, ["10 class names", "2"]);
}

#[test]
fn cifar100_reads_fine_labels() {
    let folder = tempdir().unwrap();
    let mut train = records(3, 2);
    train[0] = 19; // coarse label of the first record
    write(&folder, "train.bin", train);
    write(&folder, "test.bin", records(1, 2));
    let cifar = cifar100(folder.path()).unwrap();
    assert_eq!(Vec::<i64>::try_from(&cifar.train.labels).unwrap(), [0, 1, 2]);
    assert_eq!(cifar.train.classes.len(), 100);
}

fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
    bytes.extend(data);
    bytes
}

#[test]
fn mnist_plain_and_compressed() {
    let folder = tempdir().unwrap();
    let images = idx(&[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    write(&folder, "train-images-idx3-ubyte.gz", gzip(&images));
    write(&folder, "train-labels-idx1-ubyte", idx(&[2], &[4, 9]));
    write(&folder, "t10k-images.idx3-ubyte", &images);
    write(&folder, "t10k-labels-idx1-ubyte.gz", gzip(&idx(&[2], &[0, 1])));
    let (train, test) = mnist(folder.path()).unwrap();
    assert_eq!(train.images.size(), [2, 1, 2, 3]);
    assert_eq!(train.images.int64_value(&[1, 0, 0, 1]), 8);
    assert_eq!(Vec::<i64>::try_from(&train.labels).unwrap(), [4, 9]);
    assert_eq!(test.images, train.images);
}

#[test]
fn damaged_idx_files_are_named() {
    let folder = tempdir().unwrap();
    let good = idx(&[3], &[1, 2, 3]);
    let missing = folder.path().join("none");
    fails(read_idx(&missing, 1), &missing, ["an IDX file", "no such file"]);
    let magic = write(&folder, "magic", idx(&[1, 3], &[1, 2, 3]));
    fails(read_idx(&magic, 1), &magic, ["IDX magic number [00, 00, 08, 01]", "[00, 00, 08, 02]"]);
    let short = write(&folder, "short", &good[..good.len() - 1]);
    fails(read_idx(&short, 1), &short, ["[3] values", "2 values"]);
    let long = write(&folder, "long", [&good[..], &[4]].concat());
    fails(read_idx(&long, 1), &long, ["[3] values", "4 values"]);
    let header = write(&folder, "header", &good[..6]);
    fails(read_idx(&header, 1), &header, ["a header of 8 bytes", "6 bytes"]);
    let huge = write(&folder, "huge", idx(&[u32::MAX, u32::MAX, u32::MAX], &[]));
    fails(read_idx(&huge, 3), &huge, ["[4294967295, 4294967295, 4294967295] values", "0 values"]);
    let packed = gzip(&good);
    let cut = write(&folder, "cut.gz", &packed[..packed.len() - 9]);
    fails(read_idx(&cut, 1), &cut, ["a complete gzip stream", ""]);
    let plain = write(&folder, "plain.gz", &good);
    fails(read_idx(&plain, 1), &plain, ["gzip (magic number 1f 8b)", "a file that begins with [00, 00]"]);
    // Images and labels that do not belong together, and a label out of range.
    write(&folder, "train-images-idx3-ubyte", idx(&[2, 1, 1], &[1, 2]));
    let labels = write(&folder, "train-labels-idx1-ubyte", &good);
    fails(mnist(folder.path()), &labels, ["2 labels, one for each image", "3"]);
    write(&folder, "train-labels-idx1-ubyte", idx(&[2], &[1, 10]));
    fails(mnist(folder.path()), &labels, ["labels below 10", "label 10 at 1"]);
}

#[test]
fn image_folders_are_resized_and_cropped() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    fails(image_folder(&root.join("none"), 8), &root.join("none"), ["a folder", "no such file"]);
    fs::create_dir(root.join("b")).unwrap();
    fails(image_folder(root, 8), root, ["folders (one per class)", "1 class folders without images"]);
    // A wide image, red in its middle: the crop keeps the middle.
    let wide =
        image::RgbImage::from_fn(40, 20, |x, _| image::Rgb(if (7..33).contains(&x) { [255, 0, 0] } else { [0; 3] }));
    wide.save(root.join("b/wide.png")).unwrap();
    fs::create_dir(root.join("a")).unwrap();
    image::GrayImage::from_pixel(9, 9, image::Luma([100])).save(root.join("a/grey.jpeg")).unwrap();
    fs::write(root.join("a/notes.txt"), "not an image").unwrap();
    let set = image_folder(root, 10).unwrap();
    assert_eq!((set.images.size(), &set.classes[..]), (vec![2, 3, 10, 10], &["a".to_owned(), "b".to_owned()][..]));
    assert_eq!(set.images.get(1).select(0, 0).min().int64_value(&[]), 255);
    assert_eq!(set.images.get(1).narrow(0, 1, 2).max().int64_value(&[]), 0);
    assert!((set.images.get(0).to_kind(Kind::Float) - 100.0).abs().max().double_value(&[]) <= 1.0);
    assert!(image_folder(root, 0).unwrap_err().to_string().starts_with("size: expected at least 1 pixel"));
    let png = fs::read(root.join("b/wide.png")).unwrap();
    let cut = write(&folder, "a/cut.png", &png[..png.len() / 2]);
    fails(image_folder(root, 10), &cut, ["a JPEG or PNG image", ""]);
    fs::write(&cut, "no magic number").unwrap();
    fails(image_folder(root, 10), &cut, ["a JPEG or PNG image", ""]);
}

#[test]
fn text_must_be_there_and_utf8() {
    let folder = tempdir().unwrap();
    assert_eq!(read_text(&write(&folder, "a.txt", "Grüße\n")).unwrap(), "Grüße\n");
    assert_eq!(read_text(&write(&folder, "a.gz", gzip(b"packed"))).unwrap(), "packed");
    let missing = folder.path().join("none.txt");
    fails(read_text(&missing), &missing, ["a text file", "no such file"]);
    let latin = write(&folder, "latin.txt", b"one\ntwo\nGr\xfc\xdfe");
    fails(read_text(&latin), &latin, ["UTF-8 text", "byte 0xfc on line 3"]);
}

#[test]
fn json_lines_are_lazy_and_name_the_malformed_one() {
    #[derive(serde::Deserialize)]
    struct Record {
        x: i64,
    }
    let folder = tempdir().unwrap();
    let text = "{\"x\": 1}\n\n{\"x\": \"two\"}\n{\"x\": 3, \"y\": 0}\n{\"x\":";
    for path in [write(&folder, "a.jsonl", text), write(&folder, "a.jsonl.gz", gzip(text.as_bytes()))] {
        let mut lines = JsonLines::<Record>::open(&path).unwrap();
        assert_eq!(lines.next().unwrap().unwrap().x, 1);
        fails(lines.next().unwrap(), &path, ["a JSON record on line 3", "invalid type: string \"two\""]);
        assert_eq!(lines.next().unwrap().unwrap().x, 3);
        fails(lines.next().unwrap(), &path, ["a JSON record on line 5", "EOF while parsing"]);
        assert!(lines.next().is_none());
    }
    let packed = gzip(text.repeat(1000).as_bytes());
    let cut = write(&folder, "cut.jsonl.gz", &packed[..packed.len() - 20]);
    let last = JsonLines::<Record>::open(&cut).unwrap().last().unwrap();
    fails(last, &cut, ["a readable JSON-lines file", ""]);
    let missing = folder.path().join("none.jsonl");
    fails(JsonLines::<Record>::open(&missing), &missing, ["a JSON-lines file", "no such file"]);
}

#[test]
fn parallel_files_must_have_the_same_length() {
    let folder = tempdir().unwrap();
    let en = write(&folder, "en", "A dog.\nTwo cats.\n");
    let de = write(&folder, "de.gz", gzip("Ein Hund.\nZwei Katzen.\n".as_bytes()));
    let pairs = parallel_sentences(&en, &de).unwrap();
    assert_eq!(pairs[1], ("Two cats.".to_owned(), "Zwei Katzen.".to_owned()));
    let short = write(&folder, "short", "Ein Hund.\n");
    fails(parallel_sentences(&en, &short), &short, ["2 lines, as many as", "1 lines"]);
}

#[test]
fn csv_columns_get_their_types() {
    let folder = tempdir().unwrap();
    let path = write(&folder, "t.csv", "height,colour,class\n1.5,red,'-1'\n?,\"blue\",'1'\n-2e3,red,'-1'\n");
    let table = read_csv(&path, true).unwrap();
    assert_eq!(table.rows(), 3);
    let Values::Numeric(heights) = &table.column("height").unwrap().values else { panic!("{table:?}") };
    assert!(heights[0] == 1.5 && heights[1].is_nan() && heights[2] == -2000.0);
    let (x, y, classes) = table.classification().unwrap();
    assert_eq!(x.size(), [3, 3]);
    assert_eq!(Vec::<f64>::try_from(x.select(1, 2)).unwrap(), [1.0, 0.0, 1.0]); // colour = red
    assert_eq!((Vec::<i64>::try_from(&y).unwrap(), classes), (vec![0, 1, 0], vec!["-1".to_owned(), "1".to_owned()]));
    fails(table.column("weight").map(drop), &path, ["a column weight", "columns height, colour, class"]);
}

#[test]
fn damaged_tables_are_named_with_the_line() {
    let folder = tempdir().unwrap();
    let missing = folder.path().join("none.csv");
    fails(read_csv(&missing, false), &missing, ["a CSV file", "no such file"]);
    let ragged = write(&folder, "ragged.csv", "1,2\n3,4\n5\n");
    fails(read_csv(&ragged, false), &ragged, ["2 cells on line 3", "1 cells"]);
    let empty = write(&folder, "empty.csv", "a,b\n");
    fails(read_csv(&empty, true), &empty, ["at least one row of data", "1 lines"]);
    fails(read_arff(&missing), &missing, ["an ARFF file", "no such file"]);
    let head = "% comment\n@RELATION r\n@ATTRIBUTE 'the x' NUMERIC\n@attribute c {yes, no}\n";
    let good = write(&folder, "good.arff", format!("{head}@DATA\n1.5,yes\n% comment\n?,no\n"));
    let table = read_arff(&good).unwrap();
    assert_eq!(table.columns[0].name, "the x");
    let nominal = Values::Nominal { codes: vec![0, 1], levels: vec!["yes".into(), "no".into()] };
    assert_eq!(table.column("c").unwrap().values, nominal);
    let path = write(&folder, "bad.arff", head);
    fails(read_arff(&path), &path, ["an @DATA section", "2 attributes and no @DATA"]);
    for (data, expected, found) in [
        ("1,yes\nfew,no\n", "a number for attribute the x on line 7", "\"few\""),
        ("1,maybe\n", "a declared value for attribute c on line 6", "\"maybe\""),
        ("1,yes\n2\n", "2 cells on line 7", "1 cells"),
        ("", "at least one row of data", "none"),
    ] {
        fs::write(&path, format!("{head}@DATA\n{data}")).unwrap();
        fails(read_arff(&path), &path, [expected, found]);
    }
    fs::write(&path, "@relation r\n@attribute d DATE\n@data\n").unwrap();
    fails(read_arff(&path), &path, ["a numeric or nominal attribute on line 2", "@attribute d DATE"]);
    fs::write(&path, "RIFF....").unwrap();
    fails(read_arff(&path), &path, ["an ARFF declaration on line 1", "RIFF"]);
}

#[test]
fn wav_files_are_scaled_by_their_bits() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.wav");
    let spec =
        hound::WavSpec { channels: 2, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    [0i16, 100, -32768, 16384].iter().for_each(|&s| writer.write_sample(s).unwrap());
    writer.finalize().unwrap();
    let wav = read_wav(&path).unwrap();
    assert_eq!((wav.sample_rate, wav.samples.size()), (8000, vec![2, 2]));
    assert_eq!(Vec::<f32>::try_from(wav.samples.get(0)).unwrap(), [0.0, -1.0]);
    assert_eq!(Vec::<f32>::try_from(wav.samples.get(1)).unwrap(), [100.0 / 32768.0, 0.5]);
    let bytes = fs::read(&path).unwrap();
    let cut = write(&folder, "cut.wav", &bytes[..bytes.len() - 3]);
    fails(read_wav(&cut), &cut, ["a complete WAV file", ""]);
    let magic = write(&folder, "magic.wav", [b"OggS", &bytes[4..]].concat());
    fails(read_wav(&magic), &magic, ["a complete WAV file", ""]);
    let missing = folder.path().join("none.wav");
    fails(read_wav(&missing), &missing, ["a WAV file", "no such file"]);
}

/// A .npy file of this version.
fn npy(version: u8, descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = [b"\x93NUMPY", &[version, 0][..]].concat();
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    [&bytes[..], header.as_bytes(), data].concat()
}

#[test]
fn npy_arrays_of_all_types_and_versions() {
    let folder = tempdir().unwrap();
    let read = |bytes: Vec<u8>| read_npy(&write(&folder, "a.npy", bytes)).unwrap();
    let floats: Vec<u8> = [1.5f32, -2.0, 3.0, 0.25, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let expected = Tensor::from_slice(&[1.5f32, -2.0, 3.0, 0.25, 5.0, 6.0]).view([2, 3]);
    for version in 1..=3 {
        assert_eq!(read(npy(version, "<f4", "False", "(2, 3)", &floats)), expected);
    }
    assert_eq!(read(npy(1, "<f8", "False", "(1,)", &2.5f64.to_le_bytes())), Tensor::from_slice(&[2.5f64]));
    assert_eq!(read(npy(1, "<i4", "False", "(1,)", &(-7i32).to_le_bytes())), Tensor::from_slice(&[-7i32]));
    let scalar = read(npy(1, "<i8", "False", "()", &9i64.to_le_bytes()));
    assert_eq!((scalar.size(), scalar.int64_value(&[])), (vec![], 9));
    assert_eq!(read(npy(1, "|u1", "False", "(2,)", &[1, 255])), Tensor::from_slice(&[1u8, 255]));
    assert_eq!(read(npy(1, "<f4", "False", "(0, 3)", &[])).size(), [0, 3]);
}

#[test]
fn damaged_npy_files_are_named() {
    let folder = tempdir().unwrap();
    let missing = folder.path().join("none.npy");
    fails(read_npy(&missing), &missing, ["a .npy file", "no such file"]);
    let good = npy(1, "<f4", "False", "(2,)", &[0; 8]);
    for (bytes, expected, found) in [
        (b"PK\x03\x04...".to_vec(), "NumPy's magic number", "[50, 4b, 03, 04, 2e, 2e]"),
        (good[..7].to_vec(), "a complete header", "7 bytes"),
        (good[..30].to_vec(), "a complete header", "30 bytes"),
        (good[..good.len() - 1].to_vec(), "[2] values of 4 bytes", "7 bytes of data"),
        ([&good[..], &[0]].concat(), "[2] values of 4 bytes", "9 bytes of data"),
        (npy(1, "<c8", "False", "(1,)", &[0; 8]), "type <f4, <f8, <i4, <i8 or |u1", "type <c8"),
        (npy(1, ">f4", "False", "(2,)", &[0; 8]), "type <f4", "type >f4"),
        (npy(1, "<f4", "True", "(2,)", &[0; 8]), "C order", "Fortran order"),
        (npy(1, "<f4", "False", "(x,)", &[0; 8]), "a shape", "(x,)"),
        (npy(4, "<f4", "False", "(2,)", &[0; 8]), "format version 1, 2 or 3", "version 4"),
    ] {
        let path = write(&folder, "bad.npy", bytes);
        fails(read_npy(&path), &path, [expected, found]);
    }
}
