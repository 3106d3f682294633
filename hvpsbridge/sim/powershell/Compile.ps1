# The compiler of a simulated host: compiles C# from standard input to an assembly. Add-Type of Startup.ps1 starts this
# process. Exit code 0 if the assembly exists.
param(
    [Parameter(Mandatory = $true)] [string] $AssemblyPath,
    [string] $References
)
$ErrorActionPreference = 'Stop'
$source = [Console]::In.ReadToEnd()
# The real Add-Type decides: what it refuses is not compiled, and the caller uses it again for the errors.
$given = @{}
if ($References) {
    $given.ReferencedAssemblies = $References.Split(';')
}
Add-Type -TypeDefinition $source -Language CSharp @given
# Add-Type does not return the assembly, so the compiler that it loaded is called again.
$null = [Reflection.Assembly]::Load('Microsoft.CodeAnalysis.CSharp')
$metadata = foreach ($file in ([string] [AppContext]::GetData('TRUSTED_PLATFORM_ASSEMBLIES')).Split(':')) {
    if ([IO.Path]::GetFileName($file) -notlike 'Microsoft.CodeAnalysis*') {
        [Microsoft.CodeAnalysis.MetadataReference]::CreateFromFile($file)
    }
}
$tree = [Microsoft.CodeAnalysis.CSharp.CSharpSyntaxTree]::ParseText($source)
$options = [Microsoft.CodeAnalysis.CSharp.CSharpCompilationOptions]::new(
    [Microsoft.CodeAnalysis.OutputKind]::DynamicallyLinkedLibrary).WithOptimizationLevel('Release')
$compilation = [Microsoft.CodeAnalysis.CSharp.CSharpCompilation]::Create(
    [IO.Path]::GetFileNameWithoutExtension($AssemblyPath),
    [Microsoft.CodeAnalysis.SyntaxTree[]] @($tree),
    [Microsoft.CodeAnalysis.MetadataReference[]] $metadata,
    $options)
# Two shells may compile the same source, and a process may be killed: only complete files get the name.
$part = "$AssemblyPath.$PID"
$image = [IO.File]::Create($part)
$done = $compilation.Emit($image)
$image.Dispose()
if (-not $done.Success) {
    [IO.File]::Delete($part)
    throw ($done.Diagnostics -join "`n")
}
[IO.File]::Move($part, $AssemblyPath, $true)
