"Results as markdown, for the README and the lessons: `from tables import results_markdown` with tools/ on the path"
from pathlib import Path
import pandas as pd
from genre_fastai.course.ablation import ablation_table
from genre_fastai.course.decades import decades_table
from genre_fastai.course.genres import genres_table
from genre_fastai.course.multimodal import fusion_gain_table, multimodal_table
from genre_fastai.course.effort import coverage_table, effort_table, labels_table
from genre_fastai.course.suite import benchmarks
from genre_fastai.course.benchmark import findings, named, results_table, set_name, several_sizes

def _markdown(head, lines): return '\n'.join('| '+' | '.join(map(str, o))+' |' for o in [head, ['---']*len(head), *lines])
def _figure(r): return f'{r.accuracy:.3f} [{r.low:.3f}, {r.high:.3f}]'

def _set(data, g):
    "One set: a line that says what its runs have in common, and a table"
    r,nets = g.iloc[0], ', '.join(g['arch'][g['recipe']!='article0'].unique())
    said = f"**{set_name(data)}**: {r['n_train']:,.0f} training and {r['n_test']:,.0f} test posters, baseline {r['baseline']:.3f}{nets and f', network {nets}'}"
    clean = g['accuracy_clean'].notna().any() if 'accuracy_clean' in g else False
    head = ['recipe','accuracy', *(['clean labels'] if clean else []), 'runs','seconds']
    lines = [[r.name, _figure(r), *([f'{r.accuracy_clean:.3f}'] if clean else []), r.runs, f'{r.seconds:.0f}'] for r in g.itertuples()]
    return f'{said}\n\n{_markdown(head, lines)}'

def results_markdown(out='results', n=0):
    "A table for each set of recipes that saw `n` training rows a class (0 for all), under a line that says what they have in common"
    df = results_table(out)
    return '\n\n'.join(_set(data, g) for data,g in named(df[df['n']==n]).groupby('data', sort=False))

def sizes_markdown(out='results'):
    "What more training posters a class are worth, one line a recipe"
    df = several_sizes(out)
    sizes = sorted(set(df['n'])-{0}) + [0]*(0 in set(df['n']))
    lines = []
    for (data,name),g in df.groupby(['data','name'], sort=False):
        known = {r.n: _figure(r) for r in g.itertuples()}
        lines.append([set_name(data), name, *[known.get(o, '') for o in sizes]])
    return _markdown(['set','recipe', *[f'{o} a class' if o else 'all' for o in sizes]], lines)

def findings_markdown(out='results'):
    "Both answers in two sentences, with the newest figures of the files"
    true,clean = findings(out)
    no,all_ = true.loc[true['share'].idxmin()], true.loc[true['share'].idxmax()]
    raw,cleaned,flat,control = (f"{r['mean']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" for r in clean.to_dict('records'))
    a,b,_,c = clean.to_dict('records')
    alike = max(o['low'] for o in (a,b,c))<=min(o['high'] for o in (a,b,c))
    return (f"With a copy of {all_['share']:.0%} of the validation posters among the training rows, measured accuracy goes from {no['valid']:.3f} to "
            f"{all_['valid']:.3f}; on test posters without copies it is {no['test']:.3f} and {all_['test']:.3f}. Training rows cleaned by a rule: {raw} before, "
            f"{cleaned} after, {control} with as many rows removed at random{', so no difference is seen' if alike else ''}; and {flat} when the test rows "
            "are cleaned too, which is how an article's figure rises.")

def genres_markdown(out='results'):
    "Several genres a poster: a line an entry, the best answer without a look at the poster first"
    num = lambda v: '' if v!=v else f'{v:.3f}'
    lines = [[r.entry, f'{num(r.top3_precision)} / {num(r.top3_recall)}', f'{num(r.auc)}'+('' if r.half!=r.half else f' ± {r.half:.3f}'), f'{num(r.f1)} / {num(r.micro_f1)} / {num(r.macro_f1)}',
        '' if r.runs!=r.runs else int(r.runs), '' if r.cpu!=r.cpu else f'{r.cpu:.0f}'] for r in genres_table(out).itertuples()]
    return _markdown(['', 'top 3: precision / recall', 'macro AUC', 'F1: samples / micro / macro', 'runs', 'CPU s'], lines)

def features_markdown(out='results'):
    "One label a poster: a line an entry, a column a set"
    df = genres_table(out, several=False)
    df = df[~df['entry'].str.contains('MLP|neighbours|Lite0 and|MobileNetV2, linear')] # they stand in the csv
    data = list(dict.fromkeys(df['data']))
    def cell(e, d):
        g = df[(df['entry']==e) & (df['data']==d)]
        if not len(g): return ''
        r = g.iloc[0]
        clean = f", clean {r['accuracy_clean']:.3f}" if 'accuracy_clean' in r and r['accuracy_clean']==r['accuracy_clean'] else ''
        return f"{r['accuracy']:.3f} ± {r['half']:.3f}{clean}"
    return _markdown(['', *map(set_name, data)], [[e, *[cell(e, d) for d in data]] for e in dict.fromkeys(df['entry'])])

def multimodal_markdown(out='results'):
    "Poster and overview: a line an entry, the best answer without a look at the film first"
    num = lambda v: '' if v!=v else f'{v:.3f}'
    lines = [[r.entry, num(r.auc)+('' if r.half!=r.half else f' ± {r.half:.3f}'), num(r.f1), num(r.f1_half), f'{num(r.macro_f1)} / {num(r.macro_f1_each)}'.removesuffix(' / '), num(r.hamming_half),
        '' if r.runs!=r.runs else int(r.runs), '' if r.cpu!=r.cpu else f'{r.cpu:.0f}'] for r in multimodal_table(out).itertuples()]
    return _markdown(['', 'macro AUC', 'samples F1', 'at .5', 'macro F1: one threshold / one a genre', 'Hamming at .5', 'runs', 'CPU s'], lines)

def fusion_markdown(out='results'):
    "What poster and overview together gain over each alone: a line a modality and metric"
    names = dict(auc='macro AUC', f1='samples F1')
    lines = [[r.alone, names[r.metric], f'{r.one:.3f}', f'{r.both:.3f}', f'{r.difference:+.3f} [{r.low:+.3f}, {r.high:+.3f}]', r.runs]
        for r in fusion_gain_table(out).itertuples()]
    return _markdown(['alone','metric','alone','both','gain','runs'], lines)

def ablation_markdown(out='results'):
    "What each part of a recipe is worth: a line a change, a column a set, and over the rows of all sets"
    df = ablation_table(out)
    data = [o for o in dict.fromkeys(df['data']) if o!='all']
    cell = lambda g: f"{g['difference']:+.3f} [{g['low']:+.3f}, {g['high']:+.3f}]"
    def line(r, c, g):
        by = {o['data']: cell(o) for o in g.to_dict('records')}
        return [f"`{r}`", c, f"**{by['all']}**", *[by.get(o, '') for o in data]]
    lines = [line(r, c, g) for (r,c),g in df.groupby(['recipe','changed'], sort=False)]
    return _markdown(['recipe','changed','all three','romance horror superhero','action comedy drama','action decades'] if len(data)==3 else ['recipe','changed','all',*data], lines)

def decades_markdown(out='results'):
    "Which decade: a line an entry, the best constant answers first"
    num = lambda v: '' if v!=v else f'{v:.3f}'
    lines = [[r.entry, num(r.accuracy)+('' if r.low!=r.low else f' [{r.low:.3f}, {r.high:.3f}]'), num(r.within_one), num(r.mae), num(r.mae_median), '' if r.runs!=r.runs else int(r.runs)]
        for r in decades_table(out).itertuples()]
    return _markdown(['','accuracy','off by one at most','mean distance: likeliest','mean distance: median','runs'], lines)

def summary_markdown(out='results'):
    "The articles' systems made again, and what stands here in their place, on the same test rows"
    main,genres,several = results_table(out), genres_table(out), multimodal_table(out)
    one = genres_table(out, several=False)
    lines = []
    for data,article in (('romance_horror_superhero','article1'), ('action_comedy_drama','article0'), ('action_decades','article1')):
        g = main[(main['data']==data) & (main['n']==0)].set_index('recipe')
        both = one[(one['data']==data) & (one['entry']=='all bodies, linear')].iloc[0]
        lines.append([set_name(data)+', accuracy', f"{g.loc[article,'baseline']:.3f}", f"{g.loc[article,'accuracy']:.3f} ({article})", f"{g.loc['finetune','accuracy']:.3f} `finetune`; {both['accuracy']:.3f} several bodies, linear"])
    pick = lambda df, e: df[df['entry']==e].iloc[0]
    n,a,b = (pick(genres, o) for o in ('no look at the poster','article 3: VGG16 flat, MLP','all bodies, linear'))
    lines.append(['18 genres from posters: macro AUC; recall of the top 3', f"{n['auc']:.3f}; {n['top3_recall']:.3f}", f"{a['auc']:.3f}; {a['top3_recall']:.3f} (article 3)", f"{b['auc']:.3f}; {b['top3_recall']:.3f} several bodies, linear"])
    n,a,b,c = (pick(several, o) for o in ('no look at the film','article 2: CNN and LSTM','poster and overview, linear','poster and overview, larger sentence encoder'))
    lines.append(['18 genres from poster and overview: macro AUC; samples F1', f"{n['auc']:.3f}; {n['f1']:.3f}", f"{a['auc']:.3f}; {a['f1']:.3f} (article 2)", f"{b['auc']:.3f}; {b['f1']:.3f} `fusion`; {c['auc']:.3f}; {c['f1']:.3f} with a larger sentence encoder"])
    return _markdown(['asked on test rows','without a look','the article, made again','here'], lines)

def effort_markdown(out='results'):
    "Looks that it took to find label errors: a line an order, for drawn and for real posters"
    names = dict(sample='drawn, planted errors', real='real, doubtful labels')
    lines = [[names.get(r.posters, r.posters), r.order, r.share_85, r.found_100, r.beside_cleanlab, f"{r.recall_100:.2f} / {r.precision_100:.2f}", r.runs]
        for r in effort_table(out).itertuples()]
    return _markdown(['posters','order','rows looked at for 85 % of the errors','found in 100 looks','looks beside cleanlab','recall / precision after 100 looks','runs'], lines)

def coverage_markdown(out='results'):
    "How often the interval of the errors that are left held the truth, after some numbers of looks"
    lines = [[r.looks, f"{r.held} of {r.of}", f"{r.left:.1f}", f"{r.estimated:.1f}", f"{r.width:.0f}"] for r in coverage_table(out).itertuples()]
    return _markdown(['looks','interval held the truth','errors left','estimated','width of the interval'], lines)

def labels_markdown(out='results'):
    "From zero labels: what is filled in after some marks a class, and how much of it is right"
    names = dict(sample='drawn', real='real, clean labels')
    lines = [[names.get(r.posters, r.posters), r.way, r.marks, f"{r.filled:.2f}", f"{r.right:.2f}", f"{r.accuracy:.2f}", r.runs] for r in labels_table(out).itertuples()]
    return _markdown(['posters','which are marked','marks a class','filled in at 90 %','of that right','all others right','runs'], lines)

def suite_markdown():
    "What each table asks, and the command that makes it again"
    lines = [[f'`{k}`', b.asks, f'`{b.csv}.csv`', b.seeds] for k,b in benchmarks().items()]
    return _markdown(['table (`--only`)','asks','runs in','runs of each entry'], lines)

def machines_markdown(out='results', price=.05):
    "Posters a second of each stage on one machine and by Ray's workers on the same one, and what a million posters take"
    df = pd.read_csv(Path(out)/'machines.csv')
    df = df.assign(rate=df['rows']/df['seconds'].clip(lower=1e-9))
    mid = df[df['rows']>0].groupby(['stage','engine'], sort=False)['rate'].median().unstack()
    cores = int(df['cores'].max())
    lines = [[r.Index, f'{r.local:,.0f}', f'{r.ray:,.0f}', f'{r.ray/r.local:.2f}', f'{1e6/r.local/3600:,.1f}', f'{price*cores*1e6/r.local/3600:,.2f}'] for r in mid.itertuples()]
    return _markdown(['stage', f'one machine, {cores} cores', f'Ray, {int(df["workers"].max())} workers on it', 'ratio', 'hours a million', f'at {price:.2f} a core and hour'], lines)
