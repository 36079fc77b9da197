"""Poster and overview together: article 2's network beside linear models and networks. `python benchmarks/multimodal.py --posters FOLDER [--large FOLDER] [--body FILE] [--seeds 5] [--names NAME...] [--gain]`

FOLDER holds posters_overviews.csv; a larger sentence encoder (a key of `text_models`, or its folder) and a pretrained body are files (the entries that need them are left out otherwise).
Figures go to results/multimodal.csv, run by run; a stopped benchmark goes on. --gain compares both with each alone on the test rows, by a paired bootstrap."""
import argparse
from genre_fastai.course.multimodal import fusion_gain_table, multimodal_table, run_fusion_gain, run_multimodal

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--posters', required=True)
    p.add_argument('--out', default='results')
    p.add_argument('--seeds', type=int, default=5)
    p.add_argument('--large', help='a larger sentence encoder')
    p.add_argument('--body', help='weights of Lite0, from `pretrain`')
    p.add_argument('--names', nargs='+')
    p.add_argument('--gain', action='store_true')
    a = p.parse_args()
    show = lambda s: print(s, flush=True)
    if a.gain:
        run_fusion_gain(a.posters, a.out, a.seeds, show)
        return print(fusion_gain_table(a.out).to_string(index=False))
    run_multimodal(a.posters, a.out, a.seeds, a.names, show, large=a.large, body=a.body)
    print(multimodal_table(a.out).to_string(index=False))

if __name__=='__main__': main()
