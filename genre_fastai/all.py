"The working import: fastai's vision names, and those of ours that lessons and README use; the rest is reached by its module"
import warnings
# torch tells the developers of timm so at every import; a reader of a lesson can do nothing about it
warnings.filterwarnings('ignore', message='`torch.jit.script` is deprecated', category=FutureWarning)
from genre_fastai.core import GenreError, large_import, posters_path
with large_import(): from fastai.vision.all import *
from genre_fastai.metrics import mean_interval, wilson_interval
from genre_fastai.multilabel import label_report, multilabel_report
from genre_fastai.experiments import Experiments, grid, summarise
from genre_fastai.figure import Plot, Report, small_figures
from genre_fastai.catalog.core import Catalog, decade, read_catalog
from genre_fastai.catalog.sources import catalog_from
from genre_fastai.catalog.verify import default_policy
from genre_fastai.catalog.build import build_catalog
from genre_fastai.predictions import Predictions, average_predictions, bootstrap_difference, compare_predictions
from genre_fastai.thresholds import fit_thresholds
from genre_fastai.sample.dataset import add_truth, make_sample, unseen_poster
from genre_fastai.sample.films import make_films
from genre_fastai.sample.site import SampleSite
from genre_fastai.collect.urls import merge_urls, read_urls, save_urls
from genre_fastai.collect.google import google_snippet, google_urls
from genre_fastai.collect.providers import duckduckgo_urls, film_table, kaggle_movie_genre, kaggle_movies_metadata, tmdb_urls
from genre_fastai.collect.net import reasons
from genre_fastai.collect.download import download_posters, download_report, read_journal
from genre_fastai.collect.posters import collect_posters
from genre_fastai.measure import clear_measures
from genre_fastai.vision.weights import lite0, load_pretrained
from genre_fastai.vision.models import PosterCNN
from genre_fastai.vision.augment import poster_tfms
from genre_fastai.vision.cache import PosterImage, clear_pixels, pixel_cache
from genre_fastai.vision.data import get_dls, poster_block
from genre_fastai.vision.precision import AutocastCallback, has_bf16
from genre_fastai.features.extract import Features, extract_features
from genre_fastai.features.probe import LinearProbe, cross_val_probs, feature_predictions
from genre_fastai.features.mlp import FeatureMLP
from genre_fastai.features.neighbors import build_index
from genre_fastai.multimodal.fusion import LinearFusion
from genre_fastai.train.optimizer import FusedAdam
from genre_fastai.train.callbacks import BestWeightsCallback, FreezeBNStats, HistoryCallback
from genre_fastai.train.learner import class_weights, poster_learner, poster_loss
from genre_fastai.train.multimodal import poster_text_learner
from genre_fastai.train.recipes import recipes, train
from genre_fastai.train.pretrain import pretrain
from genre_fastai.interpret.interpret import PosterInterpretation, show_rows
import genre_fastai.interpret.gradcam, genre_fastai.interpret.labels # their methods
from genre_fastai.interpret.film import explain_film
from genre_fastai.interpret.modalities import disagreements, modality_scores, plot_disagreements, plot_gates, plot_modality_auc
from genre_fastai.interpret.leakage import leakage_curve, plot_leakage
from genre_fastai.clean.decisions import CleaningSession, replay
from genre_fastai.clean.issues import apply_rule, auto_clean, find_issues, find_label_issues
from genre_fastai.clean.live import LiveIssues
from genre_fastai.clean.label import label_posters
from genre_fastai.clean.widget import ImageClassifierCleaner, ImageCleaner
from genre_fastai.clean.evaluate import cleaning_report, issue_scores, linear_recipe, true_label_errors
from genre_fastai.deploy.folder import load_predictor, save_predictor
from genre_fastai.deploy.batch import predict_stream
from genre_fastai.deploy.onnx import OnnxPredictor, export_onnx
from genre_fastai.deploy.open import open_predictor
from genre_fastai.deploy.uploader import PosterUploader
from genre_fastai.deploy.serve import serve
