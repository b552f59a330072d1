//! Interactions: the published formats on small files, errors with file and line, the generated shop's structure.

use autodidact_datasets::interactions::{Interactions, amazon, movielens_1m, movielens_100k, padded};
use autodidact_datasets::synthetic::MarkovShop;
use autodidact_datasets::{fingerprint, load_interactions};
use std::path::Path;

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
}

#[test]
fn movielens_100k_goes_by_time_and_knows_genres() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "u.data", "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t1\t881250000\n");
    write(folder.path(), "u.genre", "unknown|0\nAction|1\nDrama|2\n\n");
    let movies = "242|Kolya (1996)|24-Jan-1997||http://x|0|0|1\n302|L\u{e9}on|01-Jan-1997||http://y|0|1|1\n";
    // In ISO 8859-1, as published.
    std::fs::write(folder.path().join("u.item"), movies.chars().map(|c| c as u8).collect::<Vec<_>>()).unwrap();
    let all = movielens_100k(folder.path()).unwrap();
    assert_eq!(
        (&all.users[..], &all.items[..]),
        (&["196".into(), "186".into()][..], &["242".into(), "302".into()][..])
    );
    assert_eq!(all.sequences, [vec![2, 1], vec![2]]);
    assert_eq!(
        (all.genres, all.genre_names),
        (vec![vec![2], vec![1, 2]], ["unknown", "Action", "Drama"].map(String::from).to_vec())
    );
}

#[test]
fn movielens_1m_reads_its_separators() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n2::661::4::978298413\n");
    write(
        folder.path(),
        "movies.dat",
        "661::James and the Giant Peach (1996)::Animation|Children's\n1193::Cuckoo::Drama\n9::Other::Drama\n",
    );
    let all = movielens_1m(folder.path()).unwrap();
    assert_eq!(all.sequences, [vec![1, 2], vec![2]]);
    assert_eq!(all.genre_names, ["Animation", "Children's", "Drama"]);
    assert_eq!(all.genres, [vec![2], vec![0, 1]]);
    // Without the movies, without genres.
    std::fs::remove_file(folder.path().join("movies.dat")).unwrap();
    assert_eq!(movielens_1m(folder.path()).unwrap().genres, vec![Vec::<usize>::new(); 2]);
}

#[test]
fn amazon_reviews_come_with_and_without_a_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ratings_Beauty.csv");
    std::fs::write(
        &path,
        "A39,0205616461,5.0,1369699200\nA3J,0558925278,3.0,1355443200\nA39,0558925278,4.0,1300000000\n",
    )
    .unwrap();
    let bare = amazon(&path).unwrap();
    assert_eq!((&bare.sequences, &bare.users), (&vec![vec![2, 1], vec![2]], &vec!["A39".to_owned(), "A3J".to_owned()]));
    std::fs::write(&path, "rating,user_id,parent_asin,timestamp\n5.0,A39,0205616461,1369699200000\n3.0,A3J,0558925278,1355443200000\n4.0,A39,0558925278,1300000000000\n").unwrap();
    assert_eq!(amazon(&path).unwrap(), bare);
}

#[test]
fn a_broken_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str, text: &str, load: &dyn Fn(&Path) -> String| {
        write(folder.path(), name, text);
        load(folder.path())
    };
    let m100: &dyn Fn(&Path) -> String = &|p| movielens_100k(p).unwrap_err().to_string();
    let e = error("u.data", "1\t2\t3\t4\n1\t2\t3\n", m100);
    assert!(e.contains("u.data") && e.contains("line 2") && e.contains("1\\t2\\t3"), "{e}");
    assert!(error("u.data", "1\t2\tgood\t4\n", m100).contains("line 1"));
    assert!(error("u.data", "", m100).contains("no lines"));
    write(folder.path(), "u.data", "1\t2\t3\t4\n");
    write(folder.path(), "u.genre", "unknown|0\nAction|1\n");
    let e = error("u.item", "2|Film|date||url|0|1\n3|Film|date||url|0|2\n", m100);
    assert!(e.contains("u.item") && e.contains("line 2") && e.contains("7 fields"), "{e}");
    let m1: &dyn Fn(&Path) -> String = &|p| movielens_1m(p).unwrap_err().to_string();
    assert!(error("ratings.dat", "1::2::3::later\n", m1).contains("line 1"));
    write(folder.path(), "ratings.dat", "1::2::3::4\n");
    assert!(error("movies.dat", "2::Film\n", m1).contains("movies.dat"));
    let csv: &dyn Fn(&Path) -> String = &|p| amazon(&p.join("r.csv")).unwrap_err().to_string();
    let e = error("r.csv", "A,B,5.0,100\nA,B,5.0\n", csv);
    assert!(e.contains("r.csv") && e.contains("line 2"), "{e}");
    assert!(error("r.csv", "A,,5.0,100\n", csv).contains("line 1"));
    assert!(error("r.csv", "", csv).contains("no lines"));
    std::fs::remove_file(folder.path().join("r.csv")).unwrap();
    assert!(csv(folder.path()).contains("no such file"));
}

#[test]
fn the_core_has_no_rare_users_or_items() {
    // c is rare; without it, user 3 is too short; without that, b is rare; only a is left to users 1 and 2.
    let events = [(1, "a"), (1, "a"), (2, "a"), (2, "a"), (1, "b"), (3, "b"), (3, "c")];
    let events = events.iter().enumerate().map(|(t, (u, i))| (u.to_string(), (*i).to_owned(), t as i64)).collect();
    let core = Interactions::from_events(events).core(2);
    assert_eq!((&core.users[..], &core.items[..]), (&["1".to_owned(), "2".to_owned()][..], &["a".to_owned()][..]));
    assert_eq!((core.sequences, core.genres.len()), (vec![vec![1, 1], vec![1, 1]], 1));
    assert_eq!(
        Interactions { sequences: vec![vec![1, 2, 3], vec![4]], ..Default::default() }.last(2).sequences,
        [vec![2, 3], vec![4]]
    );
    // Nothing is left of too little.
    assert!(core_of_nothing().sequences.is_empty());
}

fn core_of_nothing() -> Interactions {
    Interactions::from_events(vec![("u".into(), "i".into(), 0)]).core(5)
}

#[test]
fn rows_are_padded_on_the_right() {
    let (rows, lengths) = padded(&[vec![3, 1], vec![2]]).unwrap();
    assert_eq!((Vec::<i64>::try_from(rows.view([-1])).unwrap(), rows.size()), (vec![3, 1, 2, 0], vec![2, 2]));
    assert_eq!(Vec::<i64>::try_from(lengths).unwrap(), [2, 1]);
    assert!(padded::<Vec<i64>>(&[]).is_err());
    assert!(padded(&[vec![1], vec![]]).is_err());
}

#[test]
fn the_shop_has_the_structure_it_promises() {
    let shop = MarkovShop::default();
    let made = shop.generate(0).unwrap();
    let all = &made.interactions;
    assert_eq!((all.sequences.len(), all.items.len(), all.genre_names.len()), (2000, 300, 12));
    assert!(all.sequences.iter().all(|s| s.len() == 22 && s.iter().all(|i| (1..=300).contains(i))));
    let genre = |item: i64| all.genres[item as usize - 1][0];
    for (i, successors) in made.successors.iter().enumerate() {
        assert!(successors.iter().all(|s| *s != i as i64 + 1 && genre(*s) == genre(i as i64 + 1)));
        assert!(successors[0] != successors[1] && successors[1] != successors[2] && successors[0] != successors[2]);
    }
    // Half of the steps follow the chain, three fifths of those to the first successor; some more get there by chance.
    let steps: Vec<(i64, i64)> = all.sequences.iter().flat_map(|s| s.windows(2).map(|w| (w[0], w[1]))).collect();
    let share =
        |f: &dyn Fn(i64, i64) -> bool| steps.iter().filter(|(a, b)| f(*a, *b)).count() as f64 / steps.len() as f64;
    let first = share(&|a, b| made.successors[a as usize - 1][0] == b);
    assert!((0.30..0.34).contains(&first), "{first}");
    let any = share(&|a, b| made.successors[a as usize - 1].contains(&b));
    assert!((0.52..0.57).contains(&any), "{any}");
    // Chain, or staying, or drawing one's way back: 0.5 + 0.35 + 0.15 * (sum of squared tastes, 1/2).
    let same = share(&|a, b| genre(a) == genre(b));
    assert!((0.91..0.94).contains(&same), "{same}");
    // A user does not depend on the others; another seed is another shop.
    let fewer = MarkovShop { users: 5, ..shop }.generate(0).unwrap();
    assert_eq!(fewer.interactions.sequences[..], all.sequences[..5]);
    assert_ne!(shop.generate(1).unwrap().successors, made.successors);
    assert!(MarkovShop { items: 20, ..shop }.generate(0).unwrap_err().to_string().contains("four in each"));
    assert!(MarkovShop { chain: 1.5, ..shop }.generate(0).is_err());
}

#[test]
fn sets_are_found_by_name_in_the_publishers_format() {
    let folder = tempfile::tempdir().unwrap();
    let sequence: String = (0..6).flat_map(|u| (0..6).map(move |i| format!("{u}\t{i}\t3\t{i}\n"))).collect();
    write(&folder.path().join("ml-100k"), "u.data", &sequence);
    let all = load_interactions("ML-100K", Some(folder.path()), false).unwrap();
    assert_eq!(all.sequences, vec![vec![1, 2, 3, 4, 5, 6]; 6]);
    assert_eq!(fingerprint("ml-100k", Some(folder.path()), false).unwrap().len(), 64);
    assert_eq!(fingerprint("markov", None, false).unwrap(), "built in");
    let e = load_interactions("ml-1m", Some(folder.path()), true).unwrap_err().to_string();
    assert!(e.contains("ml-1m") && e.contains("put it there") && !e.contains("download"), "{e}");
    assert_eq!(load_interactions("markov", None, false).unwrap().items.len(), 300);
}
