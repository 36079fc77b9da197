"""Many genres from posters: article 3's system beside other bodies and heads. `python benchmarks/genres.py --posters FOLDER [--one-label] [--apart] [--ocr] [--vgg FILE] [--body FILE] [--seeds 5] [--names NAME...]`

FOLDER holds the csv files of the course's data sets, VGG's weights and a pretrained body are files (the entries that need them are left out otherwise).
Figures go to results/multilabel.csv, or with --one-label to results/features.csv, run by run; a stopped benchmark goes on."""
import argparse
from genre_fastai.course.genres import genres_table, run_genres

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--posters', required=True)
    p.add_argument('--out', default='results')
    p.add_argument('--one-label', action='store_true')
    p.add_argument('--apart', action='store_true', help='films of one franchise on one side of the split')
    p.add_argument('--ocr', action='store_true', help='read what is printed on the posters, about .35 s each')
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--vgg', help='weights of VGG16, its `features.*`')
    p.add_argument('--body', help='weights of Lite0, from `pretrain`')
    p.add_argument('--names', nargs='+')
    a = p.parse_args()
    run_genres(a.posters, a.out, not a.one_label, a.seeds, a.names, a.apart, a.ocr, lambda s: print(s, flush=True), vgg=a.vgg, body=a.body)
    print(genres_table(a.out, not a.one_label).to_string(index=False))

if __name__=='__main__': main()
