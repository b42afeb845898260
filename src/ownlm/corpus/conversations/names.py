"""The names whose meaning the default model learns by heart: built-ins and the most used standard functions.

Only names are listed: what is said of them comes from the docstrings of the interpreter that runs
(facts.py), so a name that another version lacks falls away by itself.
"""

BUILTINS = """
abs all any bin bool bytearray bytes callable chr classmethod compile delattr dict dir divmod enumerate eval
exec filter float format frozenset getattr globals hasattr hash hex id input int isinstance issubclass iter
len list locals map max min next object oct open ord pow print property range repr reversed round set setattr
slice sorted staticmethod str sum tuple type vars zip AttributeError EOFError FileExistsError
FileNotFoundError ImportError IndexError KeyError KeyboardInterrupt MemoryError NameError NotImplementedError
OSError OverflowError PermissionError RuntimeError StopIteration TypeError ValueError ZeroDivisionError
"""

# Every public method of these types is learnt, but for those that few people ever call.
TYPES = "str list dict set tuple int float"
RARE_METHODS = """
str.casefold str.format_map str.isidentifier str.isprintable str.istitle str.maketrans str.rindex str.expandtabs
set.difference_update set.intersection_update set.symmetric_difference_update set.isdisjoint
int.as_integer_ratio int.conjugate int.denominator int.imag int.numerator int.real int.is_integer
float.as_integer_ratio float.conjugate float.fromhex float.hex float.imag float.real float.from_number
"""
# bytes repeats str, so it gives a few only.
METHODS = "bytes.decode bytes.hex bytes.fromhex"

FUNCTIONS = """
os.getcwd os.chdir os.listdir os.mkdir os.makedirs os.remove os.rename os.rmdir os.walk os.getenv os.getpid
os.cpu_count os.urandom os.system os.path.join os.path.exists os.path.basename os.path.dirname
os.path.splitext os.path.split os.path.isfile os.path.isdir os.path.getsize os.path.abspath os.path.expanduser
json.loads json.dumps json.load json.dump math.sqrt math.sin math.cos math.tan math.exp math.log math.log2
math.log10 math.floor math.ceil math.factorial math.gcd math.lcm math.pow math.hypot math.isclose math.isnan
math.isinf math.degrees math.radians math.prod math.comb math.dist math.isqrt math.atan random.random
random.choice random.choices random.randint random.randrange random.sample random.shuffle random.uniform
random.seed re.match re.search re.sub re.findall re.finditer re.split re.compile re.fullmatch itertools.chain
itertools.count itertools.cycle itertools.product itertools.permutations itertools.combinations
itertools.islice itertools.groupby itertools.accumulate itertools.takewhile itertools.dropwhile
itertools.pairwise collections.Counter collections.deque collections.defaultdict collections.OrderedDict
collections.namedtuple collections.Counter.most_common collections.deque.append collections.deque.appendleft
collections.deque.popleft functools.reduce functools.lru_cache functools.wraps functools.cache
datetime.timedelta datetime.datetime.now datetime.date.isoformat time.time time.sleep time.perf_counter
time.strftime time.monotonic time.ctime pathlib.Path pathlib.Path.exists pathlib.Path.mkdir
pathlib.Path.read_text pathlib.Path.write_text pathlib.Path.glob pathlib.Path.iterdir pathlib.Path.unlink
pathlib.Path.is_file pathlib.Path.cwd shutil.copy shutil.copyfile shutil.copytree shutil.move shutil.rmtree
shutil.which subprocess.run subprocess.Popen subprocess.check_output subprocess.call sys.exit sys.getsizeof
sys.getrecursionlimit statistics.mean statistics.median statistics.mode statistics.stdev statistics.variance
string.capwords copy.copy copy.deepcopy pickle.dumps pickle.loads textwrap.wrap textwrap.fill textwrap.dedent
textwrap.indent heapq.heappush heapq.heappop heapq.heapify heapq.nlargest heapq.nsmallest bisect.bisect_left
bisect.insort_left operator.itemgetter contextlib.suppress contextlib.closing threading.Thread threading.Event
threading.Semaphore asyncio.sleep asyncio.run asyncio.gather urllib.parse.urlparse urllib.parse.urlencode
urllib.parse.urljoin urllib.request.urlopen base64.b64encode base64.b64decode secrets.token_hex secrets.choice
tempfile.TemporaryDirectory tempfile.NamedTemporaryFile glob.glob zipfile.ZipFile gzip.open inspect.getdoc
inspect.signature logging.getLogger logging.basicConfig argparse.ArgumentParser decimal.Decimal
fractions.Fraction uuid.uuid4 ast.parse html.escape pprint.pprint getpass.getpass warnings.warn
traceback.print_exc timeit.timeit calendar.isleap enum.Enum platform.system socket.gethostname webbrowser.open
"""
