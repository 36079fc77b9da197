"""Which part of a recipe is worth what: each turned off alone in `finetune`, and on alone in `fastai`. `python benchmarks/ablation.py --posters FOLDER [--seeds 3] [--names NAME...]`

FOLDER holds the csv files of the course's data sets with one label a poster. Figures go to results/ablation.csv, run by run; a stopped benchmark goes on."""
import argparse
from genre_fastai.course.ablation import ablation_table, run_ablation

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--posters', required=True)
    p.add_argument('--out', default='results')
    p.add_argument('--seeds', type=int, default=3)
    p.add_argument('--arch', default='tf_efficientnet_lite0')
    p.add_argument('--names', nargs='+')
    a = p.parse_args()
    run_ablation(a.posters, a.out, a.seeds, a.names, a.arch, lambda s: print(s.split(', right')[0], flush=True))
    print(ablation_table(a.out).to_string(index=False))

if __name__=='__main__': main()
