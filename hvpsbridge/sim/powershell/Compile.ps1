# The compiler of a simulated host: C# from standard input into an assembly. A short-lived process, started by Add-Type
# of Startup.ps1. Exit code 0 when the assembly is there.
param(
    [Parameter(Mandatory = $true)] [string] $AssemblyPath,
    [string] $References
)
$ErrorActionPreference = 'Stop'
$source = [Console]::In.ReadToEnd()
# The engine's own Add-Type judges: what it refuses is not compiled, and the caller asks it again for its errors.
$given = @{}
if ($References) {
    $given.ReferencedAssemblies = $References.Split(';')
}
Add-Type -TypeDefinition $source -Language CSharp @given
# It does not give the assembly away, so the compiler is called once more; it came with Add-Type.
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
# Two shells may compile the same at once, and a process may be killed: only whole files get the name.
$part = "$AssemblyPath.$PID"
$image = [IO.File]::Create($part)
$done = $compilation.Emit($image)
$image.Dispose()
if (-not $done.Success) {
    [IO.File]::Delete($part)
    throw ($done.Diagnostics -join "`n")
}
[IO.File]::Move($part, $AssemblyPath, $true)
