"Pictures of strangers: a bad one breaks only itself, what stands around a picture never costs it, and decoding ends"
import io, os, struct, subprocess, sys, time, warnings, zlib
from functools import cache
import numpy as np, pytest
from PIL import Image, ImageFile, __version__ as pil_version
from PIL.PngImagePlugin import PngInfo
from genre_fastai import images
from genre_fastai.core import GenreError
from genre_fastai.containers import first_picture
from genre_fastai.images import (BadImage, check_image, convert_image, decode, encode_image, image_formats, image_kind, image_reasons, jpeg_bytes, read_bytes,
    strict_pillow, suffixes, thumbnail, turn_of, upright_rgb, web_formats)
from genre_fastai.catalog.core import Catalog
from genre_fastai.catalog.build import build_catalog
from genre_fastai.catalog.verify import image_flags

def pic(seed=0, w=60, h=90):
    r = np.random.default_rng(seed)
    a = np.asarray(Image.fromarray(r.integers(0, 255, (9,7,3), dtype=np.uint8)).resize((w,h), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((a+r.integers(-12, 12, (h,w,3))).clip(0, 255).astype(np.uint8))

def enc(im, fmt='JPEG', **kw):
    if 'append_images' in kw: kw['append_images'] = [o.copy() for o in kw['append_images']]
    im.copy().save(b := io.BytesIO(), fmt, **kw)
    return b.getvalue()

def every_way(data):
    "All that is done with a picture: RGB arrays or `BadImage`"
    return [np.asarray(f()) for f in (lambda: upright_rgb(decode(data)), lambda: upright_rgb(decode(data, None)), lambda: thumbnail(data, 40),
        lambda: upright_rgb(decode(convert_image(data, max_side=32))), lambda: upright_rgb(decode(convert_image(data, rgb=True, first_frame=True))))]

def reason(data, **kw):
    with strict_pillow(), pytest.raises(BadImage) as e: check_image(data, **kw)
    assert e.value.reason in image_reasons and '0x' not in str(e.value) # no address of an object: the same fault, the same words
    return e.value.reason

avif = pytest.mark.skipif('AVIF' not in web_formats, reason='this Pillow has no AVIF')

# --- metadata never costs a picture

def exif(tag, typ, val, turn=6, turn_type=3):
    "EXIF with an orientation and one odd entry"
    ifd = struct.pack('<H', 2) + struct.pack('<HHII', 0x0112, turn_type, 1, turn)
    ifd += struct.pack('<HHI', tag, typ, 1) + (val.ljust(4, b'\0') if len(val)<=4 else struct.pack('<I', 8+2+24+4)) + struct.pack('<I', 0)
    return b'Exif\0\0II*\0\x08\0\0\0' + ifd + (val if len(val)>4 else b'')

odd_exif = dict(negative_rational=exif(0x011a, 10, struct.pack('<ii', -1, 0)), negative_width=exif(0x0100, 9, struct.pack('<i', -5)),
    nan=exif(0x011a, 11, struct.pack('<f', float('nan'))), inf=exif(0x011a, 12, struct.pack('<d', float('inf'))), zero_division=exif(0x011a, 5, bytes(8)),
    no_type=exif(0x9999, 99, b'x'), ifd_pointer=exif(0x8769, 4, struct.pack('<I', 8)), far_pointer=exif(0x8825, 4, b'\xff\xff\xff\xff'), text=exif(0x010e, 2, b'\xff\xfe\0x'))

@pytest.mark.parametrize('name', odd_exif)
@pytest.mark.parametrize('fmt', ['JPEG','PNG','WEBP'])
def test_an_odd_entry_beside_the_orientation(name, fmt):
    data = enc(pic(), fmt, exif=odd_exif[name])
    im = decode(data)
    assert (im.turn, im.full_size, upright_rgb(im).size) == (6, (60,90), (90,60))
    for a in every_way(data): assert a.shape[1]>a.shape[0]
    assert image_flags(im)[:1]==['rotated']

@pytest.mark.parametrize('block', [b'', b'Exif\0\0', b'Exif\0\0II*\0', b'Exif\0\0II*\0\xff\xff\xff\xff', b'Exif\0\0II*\0\x08\0\0\0\xff\xff', b'Exif\0\0XX*\0\x08\0\0\0',
    exif(0x011a, 3, b'', turn=9), exif(0x011a, 3, b'', turn=0), exif(0x011a, 3, b'', turn=0xffffffff, turn_type=9), exif(0x011a, 3, b'', turn_type=2), exif(0x011a, 3, b'', turn_type=5),
    exif(0x011a, 3, b'', turn=0x7fc00000, turn_type=11), b'Exif\0\0' + bytes(i*37%256 for i in range(300)), b'\0'*65_000], ids=lambda b: str(zlib.crc32(b)))
@pytest.mark.parametrize('fmt', ['JPEG','WEBP'])
def test_exif_that_makes_no_sense_turns_nothing(block, fmt):
    for a in every_way(enc(pic(), fmt, exif=block)): assert a.shape[0]>a.shape[1]

@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('fmt', ['JPEG','PNG','WEBP','TIFF', pytest.param('AVIF', marks=avif)])
def test_pictures_are_turned_as_pillow_does_it(fmt, turn):
    from PIL import ImageOps
    e = Image.Exif()
    e[0x0112] = turn
    data = enc(pic(), fmt, exif=e.tobytes())
    plain = Image.open(io.BytesIO(data))
    if fmt=='TIFF': plain.load() # turns it
    else: plain = ImageOps.exif_transpose(plain)
    assert np.array_equal(upright_rgb(decode(data, None)), plain.convert('RGB'))
    if fmt!='TIFF' or int(pil_version.split('.')[0])>=12: # older ones turn a TIFF and say that it has to be turned
        assert upright_rgb(Image.open(io.BytesIO(data))).size==upright_rgb(decode(data, None)).size

def chunk(name, body, crc=None): return struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name+body) if crc is None else crc)
def segment(marker, body): return b'\xff' + bytes([marker]) + struct.pack('>H', len(body)+2) + body

bomb = zlib.compress(bytes(3_000_000))
png_notes = dict(ztxt_bomb=(b'zTXt', b'a\0\0'+bomb), itxt_bomb=(b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0'+bomb), profile_bomb=(b'iCCP', b'a\0\0'+bomb), profile_method=(b'iCCP', b'a\0\7x'),
    profile_short=(b'iCCP', b'a'), bad_sum=(b'tEXt', b'a\0b', 7), zero_dpi=(b'pHYs', bytes(8)+b'\1'), short_dpi=(b'pHYs', b''), short_gamma=(b'gAMA', b'x'), short_srgb=(b'sRGB', b''),
    short_transparency=(b'tRNS', b'\0'), long_transparency=(b'tRNS', bytes(3000)), broken_exif=(b'eXIf', b'II*\0\xff'), bad_ztxt=(b'zTXt', b'a\0\5xx'), latin=(b'tEXt', b'\xff'*200), short_chrm=(b'cHRM', b'x'))

@pytest.mark.parametrize('name', png_notes)
def test_notes_in_a_png(name):
    whole = enc(pic(), 'PNG')
    for data in (whole[:33]+chunk(*png_notes[name])+whole[33:], whole[:-12]+chunk(*png_notes[name])+whole[-12:]):
        assert np.array_equal(every_way(data)[1], pic())

jpeg_notes = dict(short_jfif=segment(0xe0, b'JFIF\0'), zero_dpi=segment(0xe0, b'JFIF\0\1\1\1'+bytes(6)), short_adobe=segment(0xee, b'Adobe'), profile_short=segment(0xe2, b'ICC_PROFILE\0'),
    profile_lies=segment(0xe2, b'ICC_PROFILE\0\1\1'+bytes(200)), profile_parts=segment(0xe2, b'ICC_PROFILE\0\7\2'+b'x'*200), mpf=segment(0xe2, b'MPF\0II*\0\xff\xff\xff\xff'), xmp=segment(0xe1, b'http://ns.adobe.com/xap/1.0/\0\xff<'),
    photoshop=segment(0xed, b'Photoshop 3.0\x008BIM\3\xed\xff'), flashpix=segment(0xe2, b'FPXR\0'), comment=segment(0xfe, b'\xff\0'*9), many=segment(0xfe, b'')*20_000, large=segment(0xe5, bytes(65533))*9, junk=bytes(70_000))

@pytest.mark.parametrize('name', jpeg_notes)
def test_notes_in_a_jpeg(name):
    whole = enc(pic())
    for at in ((2, 20) if name!='junk' else (20,)): assert np.array_equal(every_way(whole[:at]+jpeg_notes[name]+whole[at:])[1], every_way(whole)[1])

def test_profiles_are_written_again_only_if_they_are_some():
    from PIL import ImageCms
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    for profile,kept in ((srgb, True), (srgb[:-1], False), (b'x'*300, False), (srgb[:36]+b'nono'+srgb[40:], False), (b'', False)):
        small = Image.open(io.BytesIO(convert_image(enc(pic(), icc_profile=profile), max_side=32)))
        assert ('icc_profile' in small.info)==kept
    im = pic()
    im.info.update(comment=7, dpi=(float('nan'), 'x'), exif=3, icc_profile='x', xmp=1j, quality='?') # what other libraries leave there
    for fmt in ('JPEG','PNG','WEBP'): assert upright_rgb(decode(encode_image(im, fmt))).size==im.size
    assert jpeg_bytes(im)[:2]==b'\xff\xd8'

# --- the first frame counts

moving = dict(save_all=True, append_images=[pic(1), pic(2)])

@pytest.mark.parametrize('fmt,lossless', [('GIF', False), ('PNG', True), ('WEBP', True), pytest.param('AVIF', False, marks=avif)])
def test_an_animation_that_is_cut_keeps_its_first_frame(fmt, lossless):
    kw = dict(lossless=True) if fmt=='WEBP' else {}
    data = enc(pic(), fmt, **moving, **kw)
    first = upright_rgb(decode(data, None))
    if lossless: assert np.array_equal(first, pic())
    kept = 0
    for n in range(len(data)//8, len(data), len(data)//40):
        try: im = decode(data[:n], None)
        except BadImage: continue
        assert im.moves and np.array_equal(upright_rgb(im), first)
        assert len(every_way(data[:n]))==5
        kept += 1
    assert kept>3

def test_a_second_frame_that_is_broken():
    "The GIF of a bug report: is_animated raises a raw IndexError"
    im = Image.new('P', (90,130), 3)
    im.putpalette([i%256 for i in range(768)])
    data = enc(im, 'GIF')[:-1] + b'!\xfe\x01;\0' + b',\0\0\0\0\x3c\0\x5a\0\0'
    assert decode(data).moves and len(every_way(data))==5

def test_what_stands_behind_the_end():
    for fmt in ('GIF','PNG','JPEG','WEBP','BMP'):
        for more in (bytes(200), b'\n', enc(pic(1), fmt), b'<html>'): assert np.array_equal(every_way(enc(pic(), fmt)+more)[1], every_way(enc(pic(), fmt))[1])

@pytest.mark.parametrize('fmt', ['JPEG','PNG','GIF','WEBP','BMP','TIFF'])
def test_a_cut_picture_is_whole_or_bad(fmt):
    data = enc(pic(), fmt)
    whole = upright_rgb(decode(data, None))
    for n in range(0, len(data), 61):
        try: assert np.array_equal(upright_rgb(decode(data[:n], None)), whole)
        except BadImage as e: assert n<700 or e.reason=='truncated', (n, e)

# --- what is what

def test_kinds():
    made = dict(JPEG=enc(pic()), PNG=enc(pic(), 'PNG'), GIF=enc(pic(), 'GIF'), WEBP=enc(pic(), 'WEBP'), BMP=enc(pic(), 'BMP'), TIFF=enc(pic(), 'TIFF'), JPEG2000=enc(pic(), 'JPEG2000'))
    if 'AVIF' in web_formats: made['AVIF'] = enc(pic(), 'AVIF')
    for k,b in made.items():
        assert image_kind(b[:64])==image_kind(b)==k and check_image(b)['format']==k and suffixes[k][0]=='.'
    ftyp = lambda *brands: struct.pack('>I', 12+4*len(brands)) + b'ftyp' + brands[0] + bytes(4) + b''.join(brands[1:])
    heads = {'HEIC': [ftyp(b'heic', b'mif1'), ftyp(b'mif1', b'heic'), ftyp(b'msf1', b'hevc'), ftyp(b'heix')], 'AVIF': [ftyp(b'avif'), ftyp(b'mif1', b'avif'), ftyp(b'avis', b'msf1')],
        'SVG': [b'<svg xmlns', b' \n<?xml version="1.0"?><!-- x --><svg>', b'\xef\xbb\xbf<SVG '], 'TIFF': [b'MM\0*\0\0\0\x08'], 'PSD': [b'8BPS\0\1'], 'JPEGXL': [b'\xff\x0a\0'],
        '': [b'', b'B', b'BMW is a car and not a picture', b'RIFF\0\0\0\0AVI ', ftyp(b'isom', b'mp42'), b'<html><svg>', b'GIFT', b'%PDF', b'\0'*64, b'{"a": 1}']}
    for k,bs in heads.items(): assert [image_kind(b) for b in bs]==[k]*len(bs)

def test_what_is_not_read_is_named():
    assert reason(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic'+bytes(99), formats=web_formats)=='heic' and 'genre_fastai[heif]' in image_reasons['heic']
    assert [reason(b) for b in (b'8BPS\0\1'+bytes(99), b'\xff\x0a'+bytes(99), enc(pic().convert('1'), 'TIFF', compression='group4'), b'II+\0\x08\0\0\0'+bytes(99))]==['unsupported']*4
    assert reason(enc(pic(), 'TIFF'), formats=web_formats)==reason(enc(pic(), 'JPEG2000'), formats=web_formats)=='unsupported'
    assert [reason(enc(pic(), f)) for f in ('PPM','TGA','PCX')]==['not-image']*3

def test_avif_without_a_decoder(monkeypatch):
    monkeypatch.delitem(Image.OPEN, 'AVIF', raising=False)
    assert reason(b'\0\0\0\x18ftypavif\0\0\0\0mif1miaf'+bytes(99))=='avif' and 'pillow' in image_reasons['avif']

def test_heic_is_read_with_its_package():
    pillow_heif = pytest.importorskip('pillow_heif', reason='the extra heif is not installed')
    e = Image.Exif()
    e[0x0112] = 6
    pillow_heif.from_pillow(pic()).save(b := io.BytesIO(), exif=e.tobytes())
    data = b.getvalue()
    assert check_image(data)['format']==image_kind(data[:64])=='HEIC' and upright_rgb(decode(data)).size==(90,60)
    assert image_kind(convert_image(data, max_side=32))=='JPEG' and reason(data, formats=web_formats)=='heic' and reason(data[:len(data)//2])

def test_heic_registers_itself_only_when_it_is_met():
    code = ("import sys, types; m = types.ModuleType('pillow_heif'); m.register_heif_opener = lambda: sys.exit('asked'); sys.modules['pillow_heif'] = m\n"
        "import genre_fastai.images as i; i.check_image(i.encode_image(i.Image.new('RGB', (9,9)))); print('not yet', flush=True); i.decode(b'\\0\\0\\0\\x18ftypheic'+bytes(99))")
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (r.stdout.strip(), r.stderr.strip())==('not yet', 'asked')

# --- decoding ends

def bmp(w, h, packing, bits=8):
    body,pal = b'\1\1\0\0\0\1', b''.join(bytes([i,255-i,i,0]) for i in range(256))
    return b'BM' + struct.pack('<IHHI', 0, 0, 0, 54+len(pal)) + struct.pack('<IiiHHIIiiII', 40, w, h, 1, bits, packing, len(body), 0, 0, 256, 0) + pal + body

def png(w, h, idat, n=1, side=b''): return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 0, 0, 0, 0)) + side + chunk(b'IDAT', idat)*n + chunk(b'IEND', b'')

@cache
def hostile():
    "Files that keep a decoder busy, take memory, or never end"
    scan = enc(Image.new('L', (2000,2000)), progressive=True)
    last = scan.rfind(b'\xff\xda')
    canvas = lambda w: b'RIFF' + struct.pack('<I', 100) + b'WEBPVP8X' + struct.pack('<I', 10) + b'\2\0\0\0' + struct.pack('<I', w)[:3]*2 + b'ANIM' + struct.pack('<I', 6) + bytes(66)
    gif = b'GIF89a' + struct.pack('<HH', 9, 9) + b'\0\0\0'
    frame = b',' + struct.pack('<HHHHB', 0, 0, 9, 9, 0) + b'\2\1\x44\0'
    tiff = lambda *e: b'II*\0\x08\0\0\0' + struct.pack('<H', len(e)) + b''.join(struct.pack('<HHII', *o) for o in e)
    size = (256,4,1,90), (257,4,1,90), (258,3,1,8), (262,3,1,1)
    return dict(rle8=bmp(40_000_000, 1, 1), rle4=bmp(4000, 4000, 2, 4), embedded=bmp(9, 9, 4, 24), scans=scan[:last]+scan[last:-2]*3000+scan[-2:], pixels=png(20_000, 20_000, b''), side=png(1, 50_000_000, b''),
        inflated=png(1, 1, zlib.compress(bytes(30_000_000))), chunks=png(9, 9, b'', 300_000), notes=png(9, 9, zlib.compress(bytes(90)), side=chunk(b'tEXt', b'a\0')*100_000),
        canvas=canvas(1<<24), large_canvas=canvas(16382), frames=gif+frame*100_000, blocks=gif+b'!\xfe'+b'\1x'*1_000_000, gif_canvas=b'GIF89a'+b'\xff'*4+bytes(3)+frame[:5]+b'\xff\xff\xff\xff'+frame[9:],
        loop=tiff(*size, (259,3,1,1), (273,4,1,0), (278,4,1,90), (279,4,1,8100))+struct.pack('<I', 8)+bytes(9000), strips=tiff((256,4,1,1), *size[1:], (273,4,900_000,99), (278,4,1,1))+bytes(4_000_000),
        tile=tiff(*size, (259,3,1,5), (322,4,1,2**31-1), (323,4,1,2**31-1), (324,4,1,0), (325,4,1,9))+bytes(99), jbig=tiff(*size, (259,3,1,34661)), junk=b'\xff\xd8\xff\xfe\0\2'+bytes(3_000_000), restarts=b'\xff\xd8'+b'\xff\xd0'*1_000_000,
        bits=tiff(*size[:2], (258,3,4_000_000,8), size[3])+bytes(8_000_100))

@pytest.mark.parametrize('name', ['rle8','rle4','embedded','scans','pixels','side','inflated','chunks','notes','canvas','large_canvas','frames','blocks','gif_canvas','loop','strips','tile','jbig','junk','restarts','bits'])
def test_hostile_pictures_end_soon(name):
    data,start = hostile()[name], time.thread_time()
    with strict_pillow(), warnings.catch_warnings():
        warnings.simplefilter('ignore') # Pillow's about odd TIFFs
        for f in (check_image, lambda b: upright_rgb(decode(b)), lambda b: convert_image(b, max_side=8)):
            try: f(data)
            except BadImage as e: assert e.reason in image_reasons
    assert time.thread_time()-start < 2

def test_the_budget_ends_python_and_c(monkeypatch):
    slow = enc(pic(0, 1000, 1000), progressive=True)
    assert upright_rgb(decode(slow)).size==(500,500)
    monkeypatch.setattr(images, 'max_seconds', .002)
    assert reason(slow)=='too-slow'
    monkeypatch.setattr(images, 'max_seconds', -1)
    for fmt in ('PNG','GIF','WEBP','BMP'): assert reason(enc(pic(), fmt))=='too-slow'

def test_the_budget_is_processor_time(monkeypatch):
    monkeypatch.setattr(images, 'max_seconds', .5)
    read = images.TimedReader.read
    monkeypatch.setattr(images.TimedReader, 'read', lambda self, n=-1: time.sleep(.06) or read(self, n)) # a busy machine
    start = time.monotonic()
    assert check_image(enc(pic(), 'PNG')) and time.monotonic()-start>.5

def test_memory_that_is_missing_is_not_the_pictures_fault(monkeypatch):
    def full(self): raise MemoryError
    monkeypatch.setattr(ImageFile.ImageFile, 'load', full)
    assert reason(enc(pic()))=='memory'

# --- one row only

def test_whatever_pillow_raises_is_one_row(tmp_path, monkeypatch):
    for i in range(6):
        for c in 'ab':
            (tmp_path/c).mkdir(exist_ok=True)
            (tmp_path/c/f'{i}.jpg').write_bytes(enc(pic(i+6*(c=='b'), 90, 130)))
    (tmp_path/'a'/'turned.jpg').write_bytes(enc(pic(50, 90, 130), exif=odd_exif['negative_rational']))
    whole = build_catalog(tmp_path, progress=False).df
    assert (whole['status']=='ok').all() and (whole['converted_from']=='a/turned.jpg').sum()==1
    for name,error in (('convert', RecursionError('x')), ('transpose', struct.error('x')), ('thumbnail', SystemError('x'))):
        f = getattr(Image.Image, name)
        def broken(self, *args, **kw):
            if getattr(self, 'size', 0)==(91,131): raise error
            return f(self, *args, **kw)
        (tmp_path/'b'/'odd.jpg').write_bytes(enc(pic(60, 91, 131), exif=exif(0x011a, 3, b'\1', turn=3)))
        with monkeypatch.context() as m:
            m.setattr(Image.Image, name, broken)
            df = build_catalog(tmp_path, progress=False).df.set_index('file')
        assert df.loc['b/odd.jpg', 'reason'].startswith('damaged') if name!='thumbnail' else True
        assert (df['status'].drop(['b/odd.jpg'], errors='ignore')=='ok').all()

def test_thirty_pictures_of_which_half_are_broken(tmp_path):
    good = {f'{c}/{i}.jpg': enc(pic(i+10*(c=='b'), 90, 130)) for c in 'ab' for i in range(4)}
    odd = {'a/neg.jpg': enc(pic(30, 90, 130), exif=odd_exif['negative_rational']), 'a/nan.jpg': enc(pic(31, 90, 130), exif=odd_exif['nan']), 'b/zeros.gif': enc(pic(32, 90, 130), 'GIF')+bytes(100),
        'b/film.gif': enc(pic(33, 90, 130), 'GIF', **moving)[:-200], 'b/film.webp': enc(pic(34, 90, 130), 'WEBP', save_all=True, append_images=[pic(1, 90, 130)])[:-50]}
    bad = {f'a/{k}.jpg': hostile()[k] for k in ('rle8','scans','pixels','side','canvas','blocks','tile','restarts')} | {'b/cut.jpg': enc(pic())[:900], 'b/page.jpg': b'<html>', 'b/none.jpg': b'',
        'b/x.heic': b'\0\0\0\x18ftypheic'+bytes(99), 'b/x.psd': b'8BPS\0\1'+bytes(99), 'b/fax.tif': enc(pic().convert('1'), 'TIFF', compression='group3'), 'b/zero.jpg': enc(pic())[:200]+bytes(900)}
    for f,b in (good|odd|bad).items():
        (tmp_path/f).parent.mkdir(exist_ok=True)
        (tmp_path/f).write_bytes(b)
    df = build_catalog(tmp_path, progress=False).df
    status = dict(zip(df['converted_from'].where(df['converted_from']!='', df['file']), df['status']+' '+df['reason']))
    assert {f: s for f,s in status.items() if not s.startswith('ok')}.keys()==bad.keys()
    assert all(status[f].split()[1].rstrip(':') in image_reasons for f in bad)

def test_bad_images_are_errors_for_users_and_travel():
    import pickle
    e = pickle.loads(pickle.dumps(BadImage('damaged', 'x\x1b[2Jy')))
    assert isinstance(e, GenreError) and e.reason=='damaged' and '\x1b' not in str(e)
    assert str(BadImage('a text that is no reason')) # a loading process of torch makes its own from the text

def test_files_that_are_none(tmp_path):
    if hasattr(os, 'mkfifo'):
        os.mkfifo(tmp_path/'p.jpg')
        with pytest.raises(BadImage, match='unreadable'): read_bytes(tmp_path/'p.jpg')
    for f in ('a\0.jpg', 'x'*300+'.jpg', '\udcff.jpg'):
        with pytest.raises(BadImage): read_bytes(tmp_path/f)

# --- what was right stays as it was

@pytest.mark.parametrize('data', [enc(pic()), enc(pic().convert('CMYK')), enc(pic(), progressive=True, comment='x'), enc(pic(), 'PNG'), enc(pic().convert('P'), 'PNG', transparency=3), enc(pic().convert('LA'), 'PNG'),
    enc(pic(), 'GIF'), enc(pic(), 'GIF', **moving), enc(pic(), 'WEBP', **moving), enc(pic(), 'TIFF', compression='tiff_lzw'), enc(pic(), 'BMP')], ids=lambda b: f'{image_kind(b)} {len(b)}')
def test_pixels_are_those_of_pillow(data):
    plain = Image.open(io.BytesIO(data))
    plain.load()
    im = decode(data, None)
    assert im.mode==plain.mode and im.tobytes()==plain.tobytes()

def test_nothing_is_copied_without_need():
    for fmt in ('JPEG','PNG','BMP'):
        data = enc(pic(), fmt)
        assert first_picture(data, fmt).data is data
    assert convert_image(data := enc(pic()), max_side=90) is data

def test_posters_come_out_bit_for_bit():
    folder = os.environ.get('GENRE_POSTERS')
    if not folder: pytest.skip('GENRE_POSTERS is not set')
    from pathlib import Path
    files = sorted(Path(folder).rglob('*.jpg'))[::60][:200]
    for f in files:
        plain = Image.open(f)
        plain.draft('RGB', (256,256))
        assert decode(f.read_bytes()).tobytes()==plain.tobytes()
