//! The papers, as plain data, and the table of their last verdicts.
//!
//! This file uses nothing of libtorch: `xtask` includes it too, so that `cargo xtask reproduce --list` answers at once.

use std::collections::BTreeMap;
use std::path::Path;

/// What is published of a paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paper {
    /// Its name in this project: of the experiment, and with underscores of the module.
    pub slug: &'static str,
    /// The crate that holds the method.
    pub area: &'static str,
    /// Title as published.
    pub title: &'static str,
    /// Authors.
    pub authors: &'static str,
    /// Year of the first public version.
    pub year: u16,
    /// arXiv identifier.
    pub arxiv: &'static str,
    /// Where it was published.
    pub venue: &'static str,
}

/// All papers with an experiment, by area.
pub const PAPERS: &[Paper] = &[
    Paper {
        slug: "barlow-twins",
        area: "ssl",
        title: "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
        authors: "Zbontar, Jing, Misra, LeCun, Deny",
        year: 2021,
        arxiv: "2103.03230",
        venue: "ICML 2021",
    },
    Paper {
        slug: "generative-classifiers",
        area: "ssl",
        title: "Revisiting Discriminative vs. Generative Classifiers: Theory and Implications",
        authors: "Zheng, Wu, Bao, Cao, Li, Zhu",
        year: 2023,
        arxiv: "2302.02334",
        venue: "ICML 2023",
    },
    Paper {
        slug: "isogclr",
        area: "ssl",
        title: "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with Automatic Temperature Individualization",
        authors: "Qiu, Hu, Yuan, Zhou, Zhang, Yang",
        year: 2023,
        arxiv: "2305.11965",
        venue: "ICML 2023",
    },
    Paper {
        slug: "label-augmentation",
        area: "ssl",
        title: "Self-supervised Label Augmentation via Input Transformations",
        authors: "Lee, Hwang, Shin",
        year: 2019,
        arxiv: "1910.05872",
        venue: "ICML 2020",
    },
    Paper {
        slug: "mixed-barlow-twins",
        area: "ssl",
        title: "Guarding Barlow Twins Against Overfitting with Mixed Samples",
        authors: "Bandara, De Melo, Patel",
        year: 2023,
        arxiv: "2312.02151",
        venue: "arXiv",
    },
    Paper {
        slug: "multi-head-contrastive",
        area: "ssl",
        title: "Adaptive Multi-head Contrastive Learning",
        authors: "Wang, Koniusz, Gedeon, Zheng",
        year: 2023,
        arxiv: "2310.05615",
        venue: "ECCV 2024",
    },
    Paper {
        slug: "projection-head",
        area: "ssl",
        title: "Investigating the Benefits of Projection Head for Representation Learning",
        authors: "Xue, Gan, Ni, Joshi, Mirzasoleiman",
        year: 2024,
        arxiv: "2403.11391",
        venue: "ICLR 2024",
    },
    Paper {
        slug: "rankme",
        area: "ssl",
        title: "RankMe: Assessing the downstream performance of pretrained self-supervised representations by their rank",
        authors: "Garrido, Balestriero, Najman, LeCun",
        year: 2022,
        arxiv: "2210.02885",
        venue: "ICML 2023",
    },
    Paper {
        slug: "scatsimclr",
        area: "ssl",
        title: "ScatSimCLR: self-supervised contrastive learning with pretext task regularization for small-scale datasets",
        authors: "Kinakh, Taran, Voloshynovskiy",
        year: 2021,
        arxiv: "2108.13939",
        venue: "ICCV 2021 workshop VIPriors",
    },
    Paper {
        slug: "dataset-distillation-ssl",
        area: "distill",
        title: "Self-Supervised Dataset Distillation for Transfer Learning",
        authors: "Lee, Lee, Ko, Kawaguchi, Lee, Hwang",
        year: 2023,
        arxiv: "2310.06511",
        venue: "ICLR 2024",
    },
    Paper {
        slug: "dual-head-distillation",
        area: "distill",
        title: "Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary Head",
        authors: "Yang, Zong, Huang, Feng, An",
        year: 2024,
        arxiv: "2411.08937",
        venue: "KDD 2025",
    },
    Paper {
        slug: "learning-from-future",
        area: "distill",
        title: "Learning from Future: A Novel Self-Training Framework for Semantic Segmentation",
        authors: "Du, Shen, Wang, Fei, Li, Wu, Zhao, Fu, Liu",
        year: 2022,
        arxiv: "2209.06993",
        venue: "NeurIPS 2022",
    },
    Paper {
        slug: "model-extraction",
        area: "distill",
        title: "Few-shot Model Extraction Attacks against Sequential Recommender Systems",
        authors: "Zhang, Liu",
        year: 2024,
        arxiv: "2411.11677",
        venue: "arXiv",
    },
    Paper {
        slug: "normalized-distillation",
        area: "distill",
        title: "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and Customized Soft Labels",
        authors: "Yang, Zeng, Li, Zhang, Yuan, Li",
        year: 2023,
        arxiv: "2303.13005",
        venue: "ICCV 2023",
    },
    Paper {
        slug: "random-teachers",
        area: "distill",
        title: "Random Teachers are Good Teachers",
        authors: "Sarnthein, Bachmann, Anagnostidis, Hofmann",
        year: 2023,
        arxiv: "2302.12091",
        venue: "ICML 2023",
    },
    Paper {
        slug: "self-distilled-pretraining",
        area: "distill",
        title: "Self-Distillation for Further Pre-training of Transformers",
        authors: "Lee, Kang, Lee, Hwang, Kawaguchi",
        year: 2022,
        arxiv: "2210.02871",
        venue: "ICLR 2023",
    },
    Paper {
        slug: "smooth-trajectories",
        area: "distill",
        title: "Efficient Dataset Distillation through Alignment with Smooth and High-Quality Expert Trajectories",
        authors: "Shen, Yang, Lam",
        year: 2023,
        arxiv: "2310.10541",
        venue: "arXiv 2023",
    },
    Paper {
        slug: "teacher-guidance",
        area: "distill",
        title: "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by Self-Distillation",
        authors: "Borup, Andersen",
        year: 2021,
        arxiv: "2102.13088",
        venue: "NeurIPS 2021",
    },
    Paper {
        slug: "cream",
        area: "preference",
        title: "CREAM: Consistency Regularized Self-Rewarding Language Models",
        authors: "Wang, He, Liang, Zhang, Bansal, Wei, Zhang, Yao",
        year: 2024,
        arxiv: "2410.12735",
        venue: "ICLR 2025",
    },
    Paper {
        slug: "implicit-prm",
        area: "preference",
        title: "Free Process Rewards without Process Labels",
        authors: "Yuan, Li, Chen, Cui, Ding, Zhang, Zhou, Liu, Peng",
        year: 2024,
        arxiv: "2412.01981",
        venue: "ICML 2025",
    },
    Paper {
        slug: "online-self-preferring",
        area: "preference",
        title: "Online Self-Preferring Language Models",
        authors: "Zhai, Zhang, Xu, Peng, Yu, Feng, Yang, Ding, Wang",
        year: 2024,
        arxiv: "2405.14103",
        venue: "arXiv",
    },
    Paper {
        slug: "preference-degree",
        area: "preference",
        title: "Self-supervised Preference Optimization: Enhance Your Language Model with Preference Degree Awareness",
        authors: "Li, Huang, and others",
        year: 2024,
        arxiv: "2409.17791",
        venue: "Findings of EMNLP 2024",
    },
    Paper {
        slug: "preference-logic",
        area: "preference",
        title: "Understanding the Logic of Direct Preference Alignment through Logic",
        authors: "Richardson, Srikumar, Sabharwal",
        year: 2024,
        arxiv: "2412.17696",
        venue: "ICML 2025",
    },
    Paper {
        slug: "rpo",
        area: "preference",
        title: "Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial Regularizer",
        authors: "Liu, Lu, Zhang, Liu, Guo, Yang, Blanchet, Wang",
        year: 2024,
        arxiv: "2405.16436",
        venue: "NeurIPS 2024",
    },
    Paper {
        slug: "self-correction-learning",
        area: "preference",
        title: "Self-Correction is More than Refinement: A Learning Framework for Visual and Language Reasoning Tasks",
        authors: "He, Lin, Wang, Fung, Ji",
        year: 2024,
        arxiv: "2410.04055",
        venue: "Findings of ACL 2025",
    },
    Paper {
        slug: "self-rationalization",
        area: "preference",
        title: "Self-rationalization improves LLM as a fine-grained judge",
        authors: "Trivedi, Gulati, Molenschot, Rajeev, Ramamurthy, Stevens, Chaudhery, Jambholkar, Zou, Rajani",
        year: 2024,
        arxiv: "2410.05495",
        venue: "arXiv",
    },
    Paper {
        slug: "srpo",
        area: "preference",
        title: "Self-Improving Robust Preference Optimization",
        authors: "Choi, Ahmadian, Geist, Pietquin, Azar",
        year: 2024,
        arxiv: "2406.01660",
        venue: "ICLR 2025",
    },
    Paper {
        slug: "lr-annealing-law",
        area: "scaling",
        title: "Scaling Law with Learning Rate Annealing",
        authors: "Tissue, Wang, Wang",
        year: 2024,
        arxiv: "2408.11029",
        venue: "NeurIPS 2025",
    },
    Paper {
        slug: "autoregressive-scaling",
        area: "scaling",
        title: "Scaling Laws for Autoregressive Generative Modeling",
        authors: "Henighan, Kaplan, Katz, Chen, Hesse, Jackson, Jun, Brown, Dhariwal, Gray, Hallacy, Mann, Radford, Ramesh, Ryder, Ziegler, Schulman, Amodei, McCandlish",
        year: 2020,
        arxiv: "2010.14701",
        venue: "arXiv",
    },
    Paper {
        slug: "implicit-bias-flatness",
        area: "scaling",
        title: "Same Pre-training Loss, Better Downstream: Implicit Bias Matters for Language Models",
        authors: "Liu, Xie, Li, Ma",
        year: 2022,
        arxiv: "2210.14199",
        venue: "ICML 2023",
    },
    Paper {
        slug: "inductive-bias",
        area: "scaling",
        title: "Towards Exact Computation of Inductive Bias",
        authors: "Boopathy, Yue, Hwang, Iyer, Fiete",
        year: 2024,
        arxiv: "2406.15941",
        venue: "IJCAI 2024",
    },
    Paper {
        slug: "infinite-lr",
        area: "scaling",
        title: "Beyond Cosine Decay: On the effectiveness of Infinite Learning Rate Schedule for Continual Pre-training",
        authors: "Singh, Janson, Mehrbod, Ibrahim, Rish, Belilovsky, Thérien",
        year: 2025,
        arxiv: "2503.02844",
        venue: "CoLLAs 2025",
    },
    Paper {
        slug: "loss-reweighting",
        area: "scaling",
        title: "Dynamic Loss-Based Sample Reweighting for Improved Large Language Model Pretraining",
        authors: "Sow, Woisetschläger, Bulusu, Wang, Jacobsen, Liang",
        year: 2025,
        arxiv: "2502.06733",
        venue: "ICLR 2025",
    },
    Paper {
        slug: "scaling-law-estimation",
        area: "scaling",
        title: "Unraveling the Mystery of Scaling Laws: Part I",
        authors: "Su, Tian, Shen, Cai",
        year: 2024,
        arxiv: "2403.06563",
        venue: "arXiv",
    },
    Paper {
        slug: "grokking",
        area: "scaling",
        title: "Grokking as the Transition from Lazy to Rich Training Dynamics",
        authors: "Kumar, Bordelon, Gershman, Pehlevan",
        year: 2023,
        arxiv: "2310.06110",
        venue: "ICLR 2024",
    },
    Paper {
        slug: "training-instabilities",
        area: "scaling",
        title: "Small-scale proxies for large-scale Transformer training instabilities",
        authors: "Wortsman, Liu, Xiao, Everett, Alemi, Adlam, Co-Reyes, Gur, Kumar, Novak, Pennington, Sohl-Dickstein, Xu, Lee, Gilmer, Kornblith",
        year: 2023,
        arxiv: "2309.14322",
        venue: "ICLR 2024",
    },
    Paper {
        slug: "translation-scaling",
        area: "scaling",
        title: "Scaling Laws for Neural Machine Translation",
        authors: "Ghorbani, Firat, Freitag, Bapna, Krikun, Garcia, Chelba, Cherry",
        year: 2021,
        arxiv: "2109.07740",
        venue: "ICLR 2022",
    },
    Paper {
        slug: "flat",
        area: "unlearning",
        title: "LLM Unlearning via Loss Adjustment with Only Forget Data",
        authors: "Wang, Wei, Liu, Pang, Liu, Shah, Bao, Liu, Wei",
        year: 2024,
        arxiv: "2410.11143",
        venue: "ICLR 2025",
    },
    Paper {
        slug: "homeostatic",
        area: "unlearning",
        title: "Need is All You Need: Homeostatic Neural Networks Adapt to Concept Shift",
        authors: "Man, Damasio, Neven",
        year: 2022,
        arxiv: "2205.08645",
        venue: "arXiv",
    },
    Paper {
        slug: "label-agnostic-forgetting",
        area: "unlearning",
        title: "Label-Agnostic Forgetting: A Supervision-Free Unlearning in Deep Models",
        authors: "Shen, Zhang, Zhao, Bialkowski, Chen, Xu",
        year: 2024,
        arxiv: "2404.00506",
        venue: "ICLR 2024",
    },
    Paper {
        slug: "model-surgery",
        area: "unlearning",
        title: "MOS: Model Surgery for Pre-Trained Model-Based Class-Incremental Learning",
        authors: "Sun, Zhou, Zhao, Gan, Zhan, Ye",
        year: 2025,
        arxiv: "2412.09441",
        venue: "AAAI 2025",
    },
    Paper {
        slug: "essential-sparsity",
        area: "pruning",
        title: "The Emergence of Essential Sparsity in Large Pre-trained Models: The Weights that Matter",
        authors: "Jaiswal, Liu, Chen, Wang",
        year: 2023,
        arxiv: "2306.03805",
        venue: "NeurIPS 2023",
    },
    Paper {
        slug: "fire-together",
        area: "pruning",
        title: "Fire Together Wire Together: A Dynamic Pruning Approach with Self-Supervised Mask Prediction",
        authors: "Elkerdawy, Elhoushi, Zhang, Ray",
        year: 2021,
        arxiv: "2110.08232",
        venue: "CVPR 2022",
    },
    Paper {
        slug: "three-regimes",
        area: "pruning",
        title: "A Three-regime Model of Network Pruning",
        authors: "Zhou, Yang, Chang, Mahoney",
        year: 2023,
        arxiv: "2305.18383",
        venue: "ICML 2023",
    },
];

/// Folder of the recorded results, below the workspace.
pub const RESULTS: &str = "crates/reproduce/results";

/// Number of claims by verdict of a recorded result, or why there is none.
pub fn verdicts(workspace: &Path, slug: &str) -> Result<BTreeMap<String, usize>, String> {
    let path = workspace.join(RESULTS).join(slug).join("run.json");
    let text = std::fs::read_to_string(&path).map_err(|_| "no recorded result".to_owned())?;
    let broken = || format!("{} is damaged", path.display());
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|_| broken())?;
    let claims = json["claims"].as_array().ok_or_else(broken)?;
    let mut counts = BTreeMap::new();
    for claim in claims {
        *counts.entry(claim["verdict"].as_str().ok_or_else(broken)?.to_owned()).or_insert(0) += 1;
    }
    Ok(counts)
}

/// Claims by verdict in words: `5 reproduced, 1 partly, 2 not judged`.
pub fn summary(counts: &BTreeMap<String, usize>) -> String {
    let words = ["reproduced", "partly", "not_reproduced", "not_judged"];
    let parts = words.iter().filter_map(|w| counts.get(*w).map(|n| format!("{n} {}", w.replace('_', " "))));
    parts.collect::<Vec<_>>().join(", ")
}

/// The table that `reproduce --list` prints.
pub fn list(workspace: &Path) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["paper", "area", "claims (last recorded result)", "title"]);
    for p in PAPERS {
        let verdict = verdicts(workspace, p.slug).map_or_else(|why| why, |counts| summary(&counts));
        table.add_row([p.slug, p.area, &verdict, p.title]);
    }
    format!("{}\n\nRun one with: cargo xtask reproduce <paper>", table.trim_fmt())
}
