//! The loaders on real data in their publishers' formats: `$AUTODIDACT_DATA`, else `../shared/datasets` beside the
//! workspace. A test skips, with a message, where its data set is absent.

use autodidact_datasets::array::read_npy;
use autodidact_datasets::audio::read_wav;
use autodidact_datasets::image::cifar10;
use autodidact_datasets::tabular::{read_arff, read_csv};
use autodidact_datasets::text::{JsonLines, parallel_sentences};
use autodidact_datasets::{load_images, load_parallel, load_text};
use std::path::PathBuf;
use tch::{Kind, Tensor};

/// The data directory, if it has `name`.
fn data_dir(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/datasets"));
    let folder = std::env::var_os("AUTODIDACT_DATA").map_or_else(beside, PathBuf::from);
    let there = folder.join(name).exists();
    if !there {
        eprintln!("skipped: no {name} in {}", folder.display());
    }
    there.then_some(folder)
}

fn class_counts(labels: &Tensor, classes: i64) -> Vec<i64> {
    Vec::try_from(labels.bincount::<&Tensor>(None, classes)).unwrap()
}

#[test]
fn cifar10_has_balanced_classes_and_the_known_channel_means() {
    let Some(folder) = data_dir("cifar-10-batches-bin") else { return };
    let cifar = cifar10(&folder.join("cifar-10-batches-bin")).unwrap();
    assert_eq!(cifar.train.len(), 10_000 * cifar.train_batches);
    assert_eq!(class_counts(&cifar.test.labels, 10), [1000; 10]);
    assert_eq!(cifar.train.classes[9], "truck");
    let (mean, std) = cifar.train.channel_stats();
    for (got, known) in mean.iter().chain(&std).zip([0.4914, 0.4822, 0.4465, 0.2470, 0.2435, 0.2616]) {
        assert!((got - known).abs() < 0.004, "{mean:?} {std:?}");
    }
    let (train, _) = load_images("cifar-10", Some(&folder), false).unwrap();
    assert_eq!(train.images, cifar.train.images);
}

#[test]
fn mnist_has_its_known_size_and_mean() {
    let Some(folder) = data_dir("mnist") else { return };
    let (train, test) = load_images("mnist", Some(&folder), false).unwrap();
    assert_eq!((train.images.size(), test.len()), (vec![60_000, 1, 28, 28], 10_000));
    assert_eq!(class_counts(&train.labels, 10)[1], 6742);
    let (mean, std) = train.channel_stats();
    assert!((mean[0] - 0.1307).abs() < 1e-4 && (std[0] - 0.3081).abs() < 1e-4, "{mean:?} {std:?}");
}

#[test]
fn tiny_shakespeare_has_its_65_characters() {
    let Some(folder) = data_dir("tinyshakespeare") else { return };
    let text = load_text("tiny-shakespeare", Some(&folder), false).unwrap();
    let mut characters: Vec<char> = text.chars().collect();
    assert_eq!(characters.len(), 1_115_394);
    characters.sort_unstable();
    characters.dedup();
    assert_eq!(characters.len(), 65);
}

#[test]
fn gsm8k_has_its_problems() {
    #[derive(serde::Deserialize)]
    struct Problem {
        question: String,
        answer: String,
    }
    let Some(folder) = data_dir("gsm8k") else { return };
    let problems: Vec<Problem> =
        JsonLines::open(&folder.join("gsm8k/train.jsonl")).unwrap().map(Result::unwrap).collect();
    assert_eq!(problems.len(), 7473);
    assert!(problems.iter().all(|p| !p.question.is_empty() && p.answer.contains("####")));
}

#[test]
fn multi30k_sentences_pair_up() {
    let Some(folder) = data_dir("multi30k") else { return };
    let file = |name: &str| folder.join("multi30k").join(name);
    let pairs = parallel_sentences(&file("train.en.gz"), &file("train.de.gz")).unwrap();
    assert_eq!(pairs.len(), 29_000);
    let all = load_parallel("multi30k", Some(&folder)).unwrap();
    assert_eq!((all.train.len(), all.validation.len(), all.test.len()), (29_000, 1014, 1000));
    assert_eq!(all.train[0], pairs[0]);
}

#[test]
fn spoken_digits_are_sound_at_8_khz() {
    let Some(folder) = data_dir("fsdd") else { return };
    let wav = read_wav(&folder.join("fsdd/recordings/3_jackson_16.wav")).unwrap();
    assert_eq!((wav.sample_rate, wav.samples.size()[0]), (8000, 1));
    assert!(wav.samples.size()[1] > 1000 && wav.samples.std(true).double_value(&[]) > 0.01);
}

#[test]
fn the_electrocardiogram_is_an_array() {
    let Some(folder) = data_dir("ecg") else { return };
    let folder = folder.join("ecg");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "npy"));
    let signal = read_npy(&files[0]).unwrap();
    assert_eq!((signal.kind(), signal.numel()), (Kind::Float, 5 * 60 * 360));
}

#[test]
fn tables_have_their_rows_and_classes() {
    if let Some(folder) = data_dir("eeg") {
        let table = read_arff(&folder.join("eeg/EEG_Eye_State.arff")).unwrap();
        assert_eq!((table.rows(), table.columns.len()), (14_980, 15));
    }
    let Some(folder) = data_dir("tabular") else { return };
    for (name, rows, features, classes) in [
        ("sonar", 208, 60, 2),
        ("ionosphere", 351, 34, 2),
        ("mammography", 11_183, 6, 2),
        ("phoneme", 5404, 5, 2),
        ("wheat-seeds", 210, 7, 3),
        ("oil-spill", 937, 49, 2),
    ] {
        let table = read_csv(&folder.join(format!("tabular/{name}.csv")), false).unwrap();
        let (x, y, levels) = table.classification().unwrap();
        assert_eq!((x.size(), levels.len()), (vec![rows, features], classes), "{name}");
        assert!(class_counts(&y, classes as i64).iter().all(|&n| n > 0));
    }
    let german = read_csv(&folder.join("tabular/german.csv"), false).unwrap();
    let (x, _, _) = german.classification().unwrap();
    assert!(x.size()[1] > 50, "nominal features become 0/1 columns");
}
